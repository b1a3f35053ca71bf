#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/template_expression.h"

namespace winnow {

struct TemplateStatement;
using TemplateBlock = std::vector<TemplateStatement>;

// A statement of a chat template, with what is inside it.
struct TemplateStatement {
  enum class Kind { kText, kOutput, kFor, kIf, kSet };
  Kind kind = Kind::kText;
  std::string text;  // of kText
  std::vector<std::string>
      variables;  // kFor: one or two; kSet: a name, or a namespace and a member
  // kOutput, kSet: one; kFor: the list, and the condition if there is one; kIf: all branches but
  // else
  std::vector<TemplateExpression> expressions;
  std::vector<TemplateBlock>
      blocks;  // kFor: the body, and else if there is one; kIf: one per branch
};

// INVALID_ARGUMENT quotes what is not supported.
absl::StatusOr<TemplateBlock> CompileTemplate(const std::string& source);

}  // namespace winnow
