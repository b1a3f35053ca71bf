#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tokenizer/template_value.h"

namespace winnow {

using TemplateScope = std::map<std::string, TemplateValue>;

// What one rendering may still cost, in steps: a statement, an operation, or 256 bytes of text or
// 16 elements made.
class RenderBudget {
 public:
  // INVALID_ARGUMENT: used up.
  absl::Status Spend(size_t text_bytes = 0);
  // For an operation that reads or makes this value.
  absl::Status SpendOn(const TemplateValue& value);

 private:
  int64_t left_ = 1'000'000;
};

// What an evaluation sees besides its names.
struct TemplateContext {
  RenderBudget budget;
  absl::Time now;  // for strftime_now
};

// An expression of a chat template, compiled once. Immutable; thread-safe.
class TemplateExpression {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<TemplateExpression> Parse(const std::string& source);

  // A name that `scope` lacks is undefined. INVALID_ARGUMENT: an operation that its operands' kinds
  // don't have, raise_exception, or the budget is used up.
  absl::StatusOr<TemplateValue> Evaluate(const TemplateScope& scope,
                                         TemplateContext& context) const;

  struct Node;

 private:
  std::shared_ptr<const Node> root_;
  std::string source_;
};

struct TemplateExpression::Node {
  enum class Op {
    kLiteral,  // literal
    kName,     // name
    kMember,   // children: of what, key
    kSlice,    // children: of what, begin, end, step
    kList,     // children: elements
    kCall,     // name: a function; children: arguments
    kMethod,   // name; children: of what, arguments
    kFilter,   // name; children: of what, arguments
    kTest,     // name; children: of what, arguments
    kAdd,
    kSubtract,
    kMultiply,
    kDivide,  // rounded down: //
    kModulo,
    kJoin,  // ~
    kEqual,
    kNotEqual,
    kLess,
    kLessEqual,
    kGreater,
    kGreaterEqual,
    kIn,
    kAnd,
    kOr,
    kNot,
    kNegate,
    kChoose,  // children: condition, then, else
  };
  Op op = Op::kLiteral;
  TemplateValue literal;
  std::string name;
  std::vector<std::shared_ptr<const Node>> children;
  std::vector<std::string> keywords;  // of the last arguments
};

// The tree of an expression's source, for TemplateExpression. Statuses of
// TemplateExpression::Parse.
absl::StatusOr<std::shared_ptr<const TemplateExpression::Node>> ParseTemplateExpression(
    const std::string& source);

// A word that can name a variable: letters, digits and _, no digit first, none of Jinja's own
// words.
bool IsTemplateName(const std::string& word);

}  // namespace winnow
