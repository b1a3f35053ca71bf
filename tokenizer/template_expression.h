#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "tokenizer/template_value.h"

namespace winnow {

using TemplateScope = std::map<std::string, TemplateValue>;

// What one rendering may still cost, in steps: a statement, an operation, or 256 bytes of text
// joined.
class RenderBudget {
 public:
  // INVALID_ARGUMENT: used up.
  absl::Status Spend(size_t text_bytes = 0);

 private:
  int64_t left_ = 1'000'000;
};

// An expression of a chat template, compiled once. Immutable; thread-safe.
class TemplateExpression {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<TemplateExpression> Parse(const std::string& source);

  // A name that `scope` lacks is undefined. INVALID_ARGUMENT: an operation that its operands' kinds
  // don't have, or the budget is used up.
  absl::StatusOr<TemplateValue> Evaluate(const TemplateScope& scope, RenderBudget& budget) const;

  // Every name the expression reads.
  const std::set<std::string>& names() const { return names_; }

  struct Node;

 private:
  std::shared_ptr<const Node> root_;
  std::string source_;
  std::set<std::string> names_;
};

// A word that can name a variable: letters, digits and _, no digit first, none of Jinja's own
// words.
bool IsTemplateName(const std::string& word);

}  // namespace winnow
