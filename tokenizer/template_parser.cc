#include <cctype>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_builtins.h"
#include "tokenizer/template_expression.h"

namespace winnow {
namespace {

using Node = TemplateExpression::Node;
using NodePtr = std::shared_ptr<const Node>;
using Op = Node::Op;

// They bound the recursion of parsing, evaluating and destroying.
constexpr size_t kMaxSourceBytes = 4096;
constexpr int kMaxNesting = 32;
constexpr int kMaxOperands = 400;

bool IsNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent, weakest first as in Jinja: if else, or, and, not, comparisons, + and -, ~,
// * // %, unary minus, then members, calls, filters and tests.
class Parser {
 public:
  explicit Parser(const std::string& source) : source_(source) {}

  absl::StatusOr<NodePtr> Parse() {
    if (source_.size() > kMaxSourceBytes) return Unsupported();
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Choice());
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
  // Any word, also one of Jinja's own.
  std::string TakeAnyWord() {
    Skip();
    size_t end = at_;
    while (end < source_.size() && IsNameChar(source_[end])) ++end;
    std::string word = source_.substr(at_, end - at_);
    at_ = end;
    return word;
  }
  std::string TakeName() {
    const size_t begin = at_;
    std::string name = TakeAnyWord();
    if (IsTemplateName(name)) return name;
    at_ = begin;
    return "";
  }
  static NodePtr Make(Op op, std::vector<NodePtr> children) {
    return std::make_shared<Node>(Node{op, {}, "", std::move(children), {}});
  }
  static NodePtr Literal(TemplateValue value) {
    return std::make_shared<Node>(Node{Op::kLiteral, std::move(value), "", {}, {}});
  }

  absl::StatusOr<NodePtr> Choice() {
    if (++nesting_ > kMaxNesting) return Unsupported();
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Or());
    if (TakeWord("if")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr condition, Or());
      NodePtr otherwise = Literal(TemplateValue());
      if (TakeWord("else")) {
        WINNOW_ASSIGN_OR_RETURN(otherwise, Choice());
      }
      node = Make(Op::kChoose, {condition, node, otherwise});
    }
    --nesting_;
    return node;
  }
  // Operands joined from the left for as long as `take_operator` finds one.
  absl::StatusOr<NodePtr> Chain(absl::StatusOr<NodePtr> (Parser::*operand)(),
                                const std::function<std::optional<Op>()>& take_operator) {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, (this->*operand)());
    while (const std::optional<Op> op = take_operator()) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, (this->*operand)());
      left = Make(*op, {left, right});
    }
    return left;
  }
  static std::optional<Op> If(bool taken, Op op) {
    return taken ? std::optional<Op>(op) : std::nullopt;
  }

  absl::StatusOr<NodePtr> Or() {
    return Chain(&Parser::And, [&] { return If(TakeWord("or"), Op::kOr); });
  }
  absl::StatusOr<NodePtr> And() {
    return Chain(&Parser::Not, [&] { return If(TakeWord("and"), Op::kAnd); });
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
    static const std::vector<std::pair<const char*, Op>> symbols = {
        {"==", Op::kEqual},        {"!=", Op::kNotEqual}, {"<=", Op::kLessEqual},
        {">=", Op::kGreaterEqual}, {"<", Op::kLess},      {">", Op::kGreater}};
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Sum());
    for (const auto& [symbol, op] : symbols) {
      if (!Take(symbol)) continue;
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, Sum());
      return Make(op, {left, right});
    }
    const size_t begin = at_;
    const bool is_negated = TakeWord("not");
    if (!TakeWord("in")) {
      at_ = begin;
      return left;
    }
    WINNOW_ASSIGN_OR_RETURN(NodePtr right, Sum());
    NodePtr in = Make(Op::kIn, {left, right});
    return is_negated ? Make(Op::kNot, {in}) : in;
  }
  absl::StatusOr<NodePtr> Sum() {
    return Chain(&Parser::Join,
                 [&] { return Take("+") ? Op::kAdd : If(Take("-"), Op::kSubtract); });
  }
  absl::StatusOr<NodePtr> Join() {
    return Chain(&Parser::Product, [&] { return If(Take("~"), Op::kJoin); });
  }
  absl::StatusOr<NodePtr> Product() {
    return Chain(&Parser::Unary, [&] {
      return Take("//") ? Op::kDivide : Take("*") ? Op::kMultiply : If(Take("%"), Op::kModulo);
    });
  }
  absl::StatusOr<NodePtr> Unary() {
    if (++operands_ > kMaxOperands) return Unsupported();
    const bool is_negated = Take("-");
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Primary());
    WINNOW_ASSIGN_OR_RETURN(node, Members(std::move(node)));
    if (is_negated) node = Make(Op::kNegate, {node});
    return FiltersAndTests(std::move(node));
  }

  absl::StatusOr<NodePtr> Members(NodePtr node) {
    while (true) {
      const size_t begin = at_;
      if (Take("[")) {
        WINNOW_ASSIGN_OR_RETURN(node, Subscript(std::move(node)));
      } else if (Take(".")) {
        std::string name = TakeAnyWord();
        if (name.empty() || IsDigit(name[0])) return Unsupported();
        if (Take("(")) {
          if (!IsTemplateMethod(name)) {
            at_ = begin;
            return Unsupported();
          }
          WINNOW_ASSIGN_OR_RETURN(node, Arguments(Op::kMethod, std::move(name), {node}));
        } else {
          node = Make(Op::kMember, {node, Literal(TemplateValue::Text(std::move(name)))});
        }
      } else {
        return node;
      }
    }
  }
  // After "[": a key, or bounds with colons.
  absl::StatusOr<NodePtr> Subscript(NodePtr of) {
    std::vector<NodePtr> bounds = {of};
    bool is_slice = false;
    while (true) {
      NodePtr bound = Literal(TemplateValue());
      Skip();
      const char next = at_ < source_.size() ? source_[at_] : '\0';
      if (next != ':' && next != ']') {
        WINNOW_ASSIGN_OR_RETURN(bound, Choice());
      }
      bounds.push_back(bound);
      if (Take("]")) break;
      if (!Take(":") || bounds.size() > 3) return Unsupported();
      is_slice = true;
    }
    if (!is_slice) return Make(Op::kMember, std::move(bounds));
    while (bounds.size() < 4) bounds.push_back(Literal(TemplateValue()));
    return Make(Op::kSlice, std::move(bounds));
  }
  // After "(": values, then name=value.
  absl::StatusOr<NodePtr> Arguments(Op op, std::string name, std::vector<NodePtr> children) {
    std::vector<std::string> keywords;
    for (bool is_first = true; !Take(")"); is_first = false) {
      if (!is_first && !Take(",")) return Unsupported();
      const size_t begin = at_;
      std::string keyword = TakeName();
      const bool is_keyword = !keyword.empty() && Take("=") && !Take("=");
      if (is_keyword) {
        keywords.push_back(std::move(keyword));
      } else {
        at_ = begin;
        if (!keywords.empty()) return Unsupported();
      }
      WINNOW_ASSIGN_OR_RETURN(NodePtr argument, Choice());
      children.push_back(std::move(argument));
    }
    return std::make_shared<Node>(
        Node{op, {}, std::move(name), std::move(children), std::move(keywords)});
  }

  absl::StatusOr<NodePtr> FiltersAndTests(NodePtr node) {
    while (true) {
      const size_t begin = at_;
      if (Take("|")) {
        std::string name = TakeAnyWord();
        if (!IsTemplateFilter(name)) return UnsupportedFrom(begin);
        if (Take("(")) {
          WINNOW_ASSIGN_OR_RETURN(node, Arguments(Op::kFilter, std::move(name), {node}));
        } else {
          node = std::make_shared<Node>(Node{Op::kFilter, {}, std::move(name), {node}, {}});
        }
        WINNOW_ASSIGN_OR_RETURN(node, Members(std::move(node)));
      } else if (TakeWord("is")) {
        const bool is_negated = TakeWord("not");
        std::string name = TakeAnyWord();
        if (!IsTemplateTest(name)) return UnsupportedFrom(begin);
        if (Take("(")) {
          WINNOW_ASSIGN_OR_RETURN(node, Arguments(Op::kTest, std::move(name), {node}));
        } else {
          node = std::make_shared<Node>(Node{Op::kTest, {}, std::move(name), {node}, {}});
        }
        if (is_negated) node = Make(Op::kNot, {node});
      } else {
        return node;
      }
    }
  }
  absl::Status UnsupportedFrom(size_t begin) {
    at_ = begin;
    Skip();
    return Unsupported();
  }

  absl::StatusOr<NodePtr> Primary() {
    Skip();
    if (Take("(")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr inner, Choice());
      if (!Take(")")) return Unsupported();
      return inner;
    }
    if (Take("[")) return ListLiteral();
    const size_t begin = at_;
    const char c = at_ < source_.size() ? source_[at_] : '\0';
    if (c == '\'' || c == '"') return StringLiterals();
    if (IsDigit(c)) return IntegerLiteral();
    if (TakeWord("true") || TakeWord("True")) return Literal(TemplateValue::Bool(true));
    if (TakeWord("false") || TakeWord("False")) return Literal(TemplateValue::Bool(false));
    if (TakeWord("none") || TakeWord("None")) return Literal(TemplateValue::None());
    std::string name = TakeName();
    if (name.empty()) return Unsupported();
    if (Take("(")) {
      if (!IsTemplateFunction(name)) return UnsupportedFrom(begin);
      return Arguments(Op::kCall, std::move(name), {});
    }
    return std::make_shared<Node>(Node{Op::kName, {}, std::move(name), {}, {}});
  }
  absl::StatusOr<NodePtr> ListLiteral() {
    std::vector<NodePtr> elements;
    for (bool is_first = true; !Take("]"); is_first = false) {
      if (!is_first && !Take(",")) return Unsupported();
      WINNOW_ASSIGN_OR_RETURN(NodePtr element, Choice());
      elements.push_back(std::move(element));
    }
    return Make(Op::kList, std::move(elements));
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
  // Neighbours are one.
  absl::StatusOr<NodePtr> StringLiterals() {
    std::string value;
    while (at_ < source_.size() && (source_[at_] == '\'' || source_[at_] == '"')) {
      WINNOW_RETURN_IF_ERROR(AppendStringLiteral(value));
      Skip();
    }
    return Literal(TemplateValue::Text(std::move(value)));
  }
  absl::Status AppendStringLiteral(std::string& value) {
    static const std::map<char, char> escapes = {{'n', '\n'},  {'t', '\t'},  {'r', '\r'},
                                                 {'\\', '\\'}, {'\'', '\''}, {'"', '"'}};
    const char quote = source_[at_];
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
    return absl::OkStatus();
  }

  const std::string& source_;
  size_t at_ = 0;
  int nesting_ = 0;
  int operands_ = 0;
};

}  // namespace

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

absl::StatusOr<NodePtr> ParseTemplateExpression(const std::string& source) {
  return Parser(source).Parse();
}

}  // namespace winnow
