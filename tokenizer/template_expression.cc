#include "tokenizer/template_expression.h"

#include <cctype>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {

struct TemplateExpression::Node {
  enum class Op { kLiteral, kName, kIndex, kAdd, kEqual, kNotEqual, kAnd, kOr, kNot };
  Op op = Op::kLiteral;
  TemplateValue literal;
  std::string name;
  std::vector<std::shared_ptr<const Node>> children;
};

namespace {

using Node = TemplateExpression::Node;
using NodePtr = std::shared_ptr<const Node>;
using Op = Node::Op;

// Recursive descent: or < and < not < == != < + < postfix < primary.
class Parser {
 public:
  explicit Parser(const std::string& source) : source_(source) {}

  absl::StatusOr<NodePtr> Parse() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Or());
    Skip();
    if (at_ != source_.size()) return Unsupported();
    return node;
  }

 private:
  absl::Status Unsupported() const {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template: '", source_.substr(at_), "' in '", source_, "' is not supported"));
  }
  void Skip() {
    while (at_ < source_.size() && std::isspace(static_cast<unsigned char>(source_[at_]))) ++at_;
  }
  static bool IsNameChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
  bool Take(const std::string& symbol) {
    Skip();
    if (source_.compare(at_, symbol.size(), symbol) != 0) return false;
    at_ += symbol.size();
    return true;
  }
  bool TakeWord(const std::string& word) {
    Skip();
    const size_t end = at_ + word.size();
    if (source_.compare(at_, word.size(), word) != 0 || (end < source_.size() && IsNameChar(source_[end]))) {
      return false;
    }
    at_ = end;
    return true;
  }
  static NodePtr Make(Op op, std::vector<NodePtr> children) {
    return std::make_shared<Node>(Node{op, {}, "", std::move(children)});
  }

  absl::StatusOr<NodePtr> Or() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, And());
    while (TakeWord("or")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, And());
      left = Make(Op::kOr, {left, right});
    }
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
    if (!TakeWord("not")) return Comparison();
    WINNOW_ASSIGN_OR_RETURN(NodePtr operand, Not());
    return Make(Op::kNot, {operand});
  }
  absl::StatusOr<NodePtr> Comparison() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Sum());
    while (true) {
      const bool equal = Take("==");
      if (!equal && !Take("!=")) return left;
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, Sum());
      left = Make(equal ? Op::kEqual : Op::kNotEqual, {left, right});
    }
  }
  absl::StatusOr<NodePtr> Sum() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr left, Postfix());
    while (Take("+")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr right, Postfix());
      left = Make(Op::kAdd, {left, right});
    }
    return left;
  }
  absl::StatusOr<NodePtr> Postfix() {
    WINNOW_ASSIGN_OR_RETURN(NodePtr node, Primary());
    while (true) {
      if (Take("[")) {
        WINNOW_ASSIGN_OR_RETURN(NodePtr index, Or());
        if (!Take("]")) return Unsupported();
        node = Make(Op::kIndex, {node, index});
      } else if (Take(".")) {
        Node name{Op::kLiteral, TemplateValue::String(Name()), "", {}};
        if (name.literal.string.empty()) return Unsupported();
        node = Make(Op::kIndex, {node, std::make_shared<Node>(std::move(name))});
      } else {
        return node;
      }
    }
  }
  absl::StatusOr<NodePtr> Primary() {
    Skip();
    if (at_ >= source_.size()) return Unsupported();
    const char c = source_[at_];
    if (Take("(")) {
      WINNOW_ASSIGN_OR_RETURN(NodePtr inner, Or());
      if (!Take(")")) return Unsupported();
      return inner;
    }
    if (c == '\'' || c == '"') return StringLiteral(c);
    if (std::isdigit(static_cast<unsigned char>(c))) {
      int64_t value = 0;
      while (at_ < source_.size() && std::isdigit(static_cast<unsigned char>(source_[at_])) && value < 1'000'000'000) {
        value = 10 * value + (source_[at_++] - '0');
      }
      return std::make_shared<Node>(Node{Op::kLiteral, TemplateValue::Integer(value), "", {}});
    }
    if (TakeWord("true") || TakeWord("True")) return Literal(TemplateValue::Bool(true));
    if (TakeWord("false") || TakeWord("False")) return Literal(TemplateValue::Bool(false));
    if (TakeWord("none") || TakeWord("None")) return Literal({});
    const std::string name = Name();
    if (name.empty()) return Unsupported();
    return std::make_shared<Node>(Node{Op::kName, {}, name, {}});
  }
  static NodePtr Literal(TemplateValue value) {
    return std::make_shared<Node>(Node{Op::kLiteral, std::move(value), "", {}});
  }
  absl::StatusOr<NodePtr> StringLiteral(char quote) {
    std::string value;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        const char escaped = source_[++at_];
        value.push_back(escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped);
      } else {
        value.push_back(source_[at_]);
      }
    }
    if (at_ >= source_.size()) return Unsupported();
    ++at_;
    return Literal(TemplateValue::String(std::move(value)));
  }
  std::string Name() {
    Skip();
    const size_t begin = at_;
    if (at_ < source_.size() && std::isdigit(static_cast<unsigned char>(source_[at_]))) return "";
    while (at_ < source_.size() && IsNameChar(source_[at_])) ++at_;
    return source_.substr(begin, at_ - begin);
  }

  const std::string& source_;
  size_t at_ = 0;
};

TemplateValue Index(const TemplateValue& value, const TemplateValue& key) {
  if (value.kind == TemplateValue::Kind::kObject && key.kind == TemplateValue::Kind::kString) {
    auto it = value.object.find(key.string);
    return it == value.object.end() ? TemplateValue{} : it->second;
  }
  const bool in_list = value.kind == TemplateValue::Kind::kList && key.kind == TemplateValue::Kind::kInteger &&
                       key.integer < static_cast<int64_t>(value.list.size());
  return in_list ? value.list[key.integer] : TemplateValue{};
}

TemplateValue Add(const TemplateValue& a, const TemplateValue& b) {
  if (a.kind == TemplateValue::Kind::kInteger && b.kind == TemplateValue::Kind::kInteger) {
    return TemplateValue::Integer(a.integer + b.integer);
  }
  // What holds content is content as a whole: the safe side.
  return TemplateValue::String(a.string + b.string, a.is_content || b.is_content);
}

TemplateValue Run(const Node& node, const TemplateScope& scope) {
  const auto child = [&](size_t i) { return Run(*node.children[i], scope); };
  switch (node.op) {
    case Op::kLiteral: return node.literal;
    case Op::kName: {
      auto it = scope.find(node.name);
      return it == scope.end() ? TemplateValue{} : it->second;
    }
    case Op::kIndex: return Index(child(0), child(1));
    case Op::kAdd: return Add(child(0), child(1));
    case Op::kEqual: return TemplateValue::Bool(child(0) == child(1));
    case Op::kNotEqual: return TemplateValue::Bool(!(child(0) == child(1)));
    case Op::kAnd: {
      TemplateValue left = child(0);
      return left.IsTrue() ? child(1) : left;
    }
    case Op::kOr: {
      TemplateValue left = child(0);
      return left.IsTrue() ? left : child(1);
    }
    case Op::kNot: return TemplateValue::Bool(!child(0).IsTrue());
  }
  return {};
}

}  // namespace

bool TemplateValue::IsTrue() const {
  switch (kind) {
    case Kind::kUndefined: return false;
    case Kind::kBool: return boolean;
    case Kind::kInteger: return integer != 0;
    case Kind::kString: return !string.empty();
    case Kind::kList: return !list.empty();
    case Kind::kObject: return !object.empty();
  }
  return false;
}

bool operator==(const TemplateValue& a, const TemplateValue& b) {
  return a.kind == b.kind && a.boolean == b.boolean && a.integer == b.integer && a.string == b.string &&
         a.list == b.list && a.object == b.object;
}

absl::StatusOr<TemplateExpression> TemplateExpression::Parse(const std::string& source) {
  TemplateExpression expression;
  WINNOW_ASSIGN_OR_RETURN(expression.root_, Parser(source).Parse());
  return expression;
}

TemplateValue TemplateExpression::Evaluate(const TemplateScope& scope) const { return Run(*root_, scope); }

}  // namespace winnow
