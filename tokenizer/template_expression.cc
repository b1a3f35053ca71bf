#include "tokenizer/template_expression.h"

#include <cctype>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {

struct TemplateExpression::Node {
  enum class Op { kLiteral, kName, kMember, kAdd, kEqual, kNotEqual, kAnd, kOr, kNot };
  Op op = Op::kLiteral;
  TemplateValue literal;
  std::string name;
  std::vector<std::shared_ptr<const Node>> children;
};

namespace {

using Node = TemplateExpression::Node;
using NodePtr = std::shared_ptr<const Node>;
using Op = Node::Op;

// Both bound the recursion of parsing, evaluating and destroying.
constexpr size_t kMaxSourceBytes = 2048;
constexpr int kMaxNesting = 32;

bool IsNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent, weakest first: or, and, not, == and !=, +, member, primary.
class Parser {
 public:
  Parser(const std::string& source, std::set<std::string>& names)
      : source_(source), names_(names) {}

  absl::StatusOr<NodePtr> Parse() {
    if (source_.size() > kMaxSourceBytes) return Unsupported();
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Or());
    Skip();
    if (at_ != source_.size()) return Unsupported();
    return node;
  }

 private:
  absl::Status Unsupported() const {
    return absl::InvalidArgumentError(
        absl::StrCat("'", CutUtf8(std::string_view(source_).substr(at_), 80), "' in '",
                     CutUtf8(source_, 160), "' is not supported"));
  }
  void Skip() {
    while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_]))) ++at_;
  }
  bool Take(const std::string& symbol) {
    Skip();
    if (source_.compare(at_, symbol.size(), symbol) != 0) return false;
    at_ += symbol.size();
    return true;
  }
  bool TakeWord(const std::string& word) {
    Skip();
    const size_t end = at_ + word.size();
    if (source_.compare(at_, word.size(), word) != 0) return false;
    if (end < source_.size() && IsNameChar(source_[end])) return false;
    at_ = end;
    return true;
  }
  std::string TakeName() {
    Skip();
    size_t end = at_;
    while (end < source_.size() && IsNameChar(source_[end])) ++end;
    std::string name = source_.substr(at_, end - at_);
    if (!IsTemplateName(name)) return "";
    at_ = end;
    return name;
  }
  static NodePtr Make(Op op, std::vector<NodePtr> children) {
    return std::make_shared<Node>(Node{op, {}, "", std::move(children)});
  }
  static NodePtr Literal(TemplateValue value) {
    return std::make_shared<Node>(Node{Op::kLiteral, std::move(value), "", {}});
  }

  absl::StatusOr<NodePtr> Or() {
    if (++nesting_ > kMaxNesting) return Unsupported();
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, And());
    while (TakeWord("or")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, And());
      left = Make(Op::kOr, {left, right});
    }
    --nesting_;
    return left;
  }
  absl::StatusOr<NodePtr> And() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Not());
    while (TakeWord("and")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, Not());
      left = Make(Op::kAnd, {left, right});
    }
    return left;
  }
  absl::StatusOr<NodePtr> Not() {
    bool is_negated = false, is_not = false;
    while (TakeWord("not")) {
      is_not = true;
      is_negated = !is_negated;
    }
    WINNOW_ASSIGN_OR_RETURN(NodePtr operand, Comparison());
    if (!is_not) return operand;
    operand = Make(Op::kNot, {operand});
    return is_negated ? operand : Make(Op::kNot, {operand});
  }
  // One comparison: Jinja chains them (a == b == c), which is refused.
  absl::StatusOr<NodePtr> Comparison() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Sum());
    const bool is_equal = Take("==");
    if (!is_equal && !Take("!=")) return left;
    WINNOW_ASSIGN_OR_RETURN(NodePtr right, Sum());
    return Make(is_equal ? Op::kEqual : Op::kNotEqual, {left, right});
  }
  absl::StatusOr<NodePtr> Sum() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Member());
    while (Take("+")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, Member());
      left = Make(Op::kAdd, {left, right});
    }
    return left;
  }
  absl::StatusOr<NodePtr> Member() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Primary());
    while (true) {
      const size_t begin = at_;
      NodePtr key;
      if (Take("[")) {
        WINNOW_ASSIGN_OR_RETURN(key, Or());
        if (!Take("]")) return Unsupported();
      } else if (Take(".")) {
        std::string name = TakeName();
        if (name.empty()) return Unsupported();
        key = Literal(TemplateValue::Text(std::move(name)));
      } else {
        return node;
      }
      if (node->name == "loop" && !IsKnownLoopMember(*key)) {
        at_ = begin;
        return Unsupported();
      }
      node = Make(Op::kMember, {node, key});
    }
  }
  static bool IsKnownLoopMember(const Node& key) {
    if (key.op != Op::kLiteral || key.literal.text() == nullptr) return false;
    const std::string name = PlainText(*key.literal.text());
    return name == "first" || name == "last" || name == "index" || name == "index0";
  }
  absl::StatusOr<NodePtr> Primary() {
    Skip();
    if (Take("(")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr inner, Or());
      if (!Take(")")) return Unsupported();
      return inner;
    }
    const char c = at_ < source_.size() ? source_[at_] : '\0';
    if (c == '\'' || c == '"') return StringLiteral(c);
    if (IsDigit(c)) return IntegerLiteral();
    if (TakeWord("true") || TakeWord("True")) return Literal(TemplateValue::Bool(true));
    if (TakeWord("false") || TakeWord("False")) return Literal(TemplateValue::Bool(false));
    std::string name = TakeName();
    if (name.empty()) return Unsupported();
    names_.insert(name);
    return std::make_shared<Node>(Node{Op::kName, {}, std::move(name), {}});
  }
  absl::StatusOr<NodePtr> IntegerLiteral() {
    size_t end = at_;
    int64_t value = 0;
    while (end < source_.size() && IsDigit(source_[end]) && end - at_ < 9) {
      value = 10 * value + (source_[end++] - '0');
    }
    const bool is_whole =
        end == source_.size() || (!IsNameChar(source_[end]) && source_[end] != '.');
    if (!is_whole) return Unsupported();
    at_ = end;
    return Literal(TemplateValue::Integer(value));
  }
  absl::StatusOr<NodePtr> StringLiteral(char quote) {
    static const std::map<char, char> escapes = {{'n', '\n'},  {'t', '\t'},  {'r', '\r'},
                                                 {'\\', '\\'}, {'\'', '\''}, {'"', '"'}};
    std::string value;
    size_t at = at_ + 1;
    for (; at < source_.size() && source_[at] != quote; ++at) {
      if (source_[at] != '\\') {
        value.push_back(source_[at]);
        continue;
      }
      const auto escape = escapes.find(++at < source_.size() ? source_[at] : '\0');
      if (escape == escapes.end()) return Unsupported();
      value.push_back(escape->second);
    }
    if (at >= source_.size()) return Unsupported();
    at_ = at + 1;
    return Literal(TemplateValue::Text(std::move(value)));
  }

  const std::string& source_;
  std::set<std::string>& names_;
  size_t at_ = 0;
  int nesting_ = 0;
};

size_t TextBytes(const TemplateValue& value) {
  return value.text() == nullptr ? 0 : TextSize(*value.text());
}

absl::StatusOr<TemplateValue> Run(const Node& node, const TemplateScope& scope,
                                  RenderBudget& budget) {
  WINNOW_RETURN_IF_ERROR(budget.Spend());
  if (node.op == Op::kLiteral) return node.literal;
  if (node.op == Op::kName) {
    const auto it = scope.find(node.name);
    return it == scope.end() ? TemplateValue() : it->second;
  }
  WINNOW_ASSIGN_OR_RETURN(TemplateValue left, Run(*node.children[0], scope, budget));
  if (node.op == Op::kNot) return TemplateValue::Bool(!left.IsTrue());
  if (node.op == Op::kAnd && !left.IsTrue()) return left;
  if (node.op == Op::kOr && left.IsTrue()) return left;
  WINNOW_ASSIGN_OR_RETURN(TemplateValue right, Run(*node.children[1], scope, budget));
  if (node.op == Op::kMember) return left.At(right);
  if (node.op == Op::kAdd) {
    const size_t bytes = TextBytes(left) + TextBytes(right);
    WINNOW_RETURN_IF_ERROR(budget.Spend(bytes));
    return left.Plus(right);
  }
  if (node.op == Op::kEqual || node.op == Op::kNotEqual) {
    WINNOW_ASSIGN_OR_RETURN(const bool is_equal, left.Equals(right));
    return TemplateValue::Bool(is_equal == (node.op == Op::kEqual));
  }
  return right;  // of and, or
}

}  // namespace

absl::Status RenderBudget::Spend(size_t text_bytes) {
  left_ -= 1 + static_cast<int64_t>(text_bytes / 256);
  if (left_ >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError("rendering takes more than 1000000 steps");
}

bool IsTemplateName(const std::string& word) {
  static const std::set<std::string> reserved = {
      "and",  "or",   "not",   "in",    "is",   "if",   "elif",  "else",  "for",    "set",
      "true", "True", "false", "False", "none", "None", "block", "macro", "filter", "call"};
  if (word.empty() || IsDigit(word[0]) || reserved.count(word) > 0) return false;
  for (char c : word) {
    if (!IsNameChar(c)) return false;
  }
  return true;
}

absl::StatusOr<TemplateExpression> TemplateExpression::Parse(const std::string& source) {
  TemplateExpression expression;
  expression.source_ = source;
  WINNOW_ASSIGN_OR_RETURN(expression.root_, Parser(source, expression.names_).Parse());
  return expression;
}

absl::StatusOr<TemplateValue> TemplateExpression::Evaluate(const TemplateScope& scope,
                                                           RenderBudget& budget) const {
  absl::StatusOr<TemplateValue> value = Run(*root_, scope, budget);
  if (value.ok()) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("'", CutUtf8(source_, 160), "': ", value.status().message()));
}

}  // namespace winnow
