#include "tokenizer/template_expression.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_builtins.h"

namespace winnow {
namespace {

using Node = TemplateExpression::Node;
using Op = Node::Op;

absl::StatusOr<TemplateValue> Arithmetic(Op op, const TemplateValue& left,
                                         const TemplateValue& right) {
  const int64_t *a = left.integer(), *b = right.integer();
  if (a == nullptr || b == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("arithmetic with ", left.KindName(), " and ",
                                                   right.KindName(), " is not supported"));
  }
  int64_t result = 0;
  bool fits = true;
  if (op == Op::kSubtract) {
    fits = !__builtin_sub_overflow(*a, *b, &result);
  } else if (op == Op::kMultiply) {
    fits = !__builtin_mul_overflow(*a, *b, &result);
  } else if (*b == 0 || *b == -1) {  // −2⁶³ / −1 does not fit
    fits = *b == -1 && !__builtin_sub_overflow(int64_t{0}, *a, &result);
    if (op == Op::kModulo) result = 0;
  } else {  // rounded down, and the remainder has the divisor's sign
    const int64_t remainder = *a % *b;
    const bool adjusts = remainder != 0 && (remainder < 0) != (*b < 0);
    result = op == Op::kDivide ? *a / *b - adjusts : remainder + (adjusts ? *b : 0);
  }
  if (!fits) return absl::InvalidArgumentError("a number that is out of range");
  return TemplateValue::Integer(result);
}

absl::StatusOr<TemplateValue> Compare(Op op, const TemplateValue& left,
                                      const TemplateValue& right) {
  if (op == Op::kEqual || op == Op::kNotEqual) {
    WINNOW_ASSIGN_OR_RETURN(const bool is_equal, left.Equals(right));
    return TemplateValue::Bool(is_equal == (op == Op::kEqual));
  }
  if (op == Op::kIn) {
    WINNOW_ASSIGN_OR_RETURN(const bool is_in, right.Contains(left));
    return TemplateValue::Bool(is_in);
  }
  WINNOW_ASSIGN_OR_RETURN(const int order, left.Compare(right));
  return TemplateValue::Bool(op == Op::kLess        ? order < 0
                             : op == Op::kLessEqual ? order <= 0
                             : op == Op::kGreater   ? order > 0
                                                    : order >= 0);
}

class Evaluator {
 public:
  Evaluator(const TemplateScope& scope, TemplateContext& context)
      : scope_(scope), context_(context) {}

  absl::StatusOr<TemplateValue> Run(const Node& node) {
    WINNOW_RETURN_IF_ERROR(context_.budget.Spend());
    switch (node.op) {
      case Op::kLiteral:
        return node.literal;
      case Op::kName: {
        const auto it = scope_.find(node.name);
        if (it != scope_.end()) return it->second;
        // Of a function's name all that can be asked is whether it is defined.
        return IsTemplateFunction(node.name) ? TemplateValue::Bool(true) : TemplateValue();
      }
      case Op::kAnd:
      case Op::kOr: {
        WINNOW_ASSIGN_OR_RETURN(TemplateValue left, Run(*node.children[0]));
        if (left.IsTrue() == (node.op == Op::kOr)) return left;
        return Run(*node.children[1]);
      }
      case Op::kChoose: {
        WINNOW_ASSIGN_OR_RETURN(const TemplateValue condition, Run(*node.children[0]));
        return Run(*node.children[condition.IsTrue() ? 1 : 2]);
      }
      default:
        return RunOnValues(node);
    }
  }

 private:
  // Operations whose operands are all evaluated, and paid for by their sizes.
  absl::StatusOr<TemplateValue> RunOnValues(const Node& node) {
    std::vector<TemplateValue> values;
    for (const auto& child : node.children) {
      WINNOW_ASSIGN_OR_RETURN(TemplateValue value, Run(*child));
      WINNOW_RETURN_IF_ERROR(context_.budget.SpendOn(value));
      values.push_back(std::move(value));
    }
    switch (node.op) {
      case Op::kMember:
        return values[0].At(values[1]);
      case Op::kSlice:
        return values[0].Slice(values[1], values[2], values[3]);
      case Op::kList:
        for (const TemplateValue& value : values) {  // no recursion of unknown depth
          if (value.list() == nullptr) continue;
          return absl::InvalidArgumentError("a list in a list is not supported");
        }
        return TemplateValue::MakeList(std::move(values));
      case Op::kAdd:
        return values[0].Plus(values[1]);
      case Op::kJoin: {
        WINNOW_ASSIGN_OR_RETURN(MarkedText joined, values[0].Print());
        WINNOW_ASSIGN_OR_RETURN(const MarkedText right, values[1].Print());
        Append(right, joined);
        return TemplateValue::Text(std::move(joined));
      }
      case Op::kSubtract:
      case Op::kMultiply:
      case Op::kDivide:
      case Op::kModulo:
        return Arithmetic(node.op, values[0], values[1]);
      case Op::kNegate:
        return Arithmetic(Op::kSubtract, TemplateValue::Integer(0), values[0]);
      case Op::kNot:
        return TemplateValue::Bool(!values[0].IsTrue());
      case Op::kCall:
      case Op::kMethod:
      case Op::kFilter:
      case Op::kTest:
        return Call(node, std::move(values));
      default:
        return Compare(node.op, values[0], values[1]);
    }
  }
  absl::StatusOr<TemplateValue> Call(const Node& node, std::vector<TemplateValue> values) {
    TemplateArguments arguments;
    const size_t unnamed = values.size() - node.keywords.size();
    for (size_t i = 0; i < values.size(); ++i) {
      if (i < unnamed) {
        arguments.values.push_back(std::move(values[i]));
      } else {
        arguments.named[node.keywords[i - unnamed]] = std::move(values[i]);
      }
    }
    if (node.op == Op::kCall) return CallTemplateFunction(node.name, arguments, context_);
    if (node.op == Op::kMethod) return CallTemplateMethod(node.name, arguments, context_);
    if (node.op == Op::kFilter) return RunTemplateFilter(node.name, arguments, context_);
    WINNOW_ASSIGN_OR_RETURN(const bool passes, RunTemplateTest(node.name, arguments));
    return TemplateValue::Bool(passes);
  }

  const TemplateScope& scope_;
  TemplateContext& context_;
};

}  // namespace

absl::Status RenderBudget::Spend(size_t text_bytes) {
  left_ -= 1 + static_cast<int64_t>(text_bytes / 256);
  if (left_ >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError("rendering takes more than 1000000 steps");
}

absl::Status RenderBudget::SpendOn(const TemplateValue& value) {
  if (value.text() != nullptr) return Spend(TextSize(*value.text()));
  if (value.list() != nullptr) return Spend(16 * value.list()->size());
  return absl::OkStatus();
}

absl::StatusOr<TemplateExpression> TemplateExpression::Parse(const std::string& source) {
  TemplateExpression expression;
  expression.source_ = source;
  WINNOW_ASSIGN_OR_RETURN(expression.root_, ParseTemplateExpression(source));
  return expression;
}

absl::StatusOr<TemplateValue> TemplateExpression::Evaluate(const TemplateScope& scope,
                                                           TemplateContext& context) const {
  absl::StatusOr<TemplateValue> value = Evaluator(scope, context).Run(*root_);
  if (value.ok()) return value;
  return absl::InvalidArgumentError(
      absl::StrCat("'", CutUtf8(source_, 160), "': ", value.status().message()));
}

}  // namespace winnow
