#pragma once

#include "absl/status/statusor.h"
#include "tokenizer/template_expression.h"

namespace winnow {

// The filter tojson as chat templates are rendered elsewhere: Python's json.dumps without escapes
// of characters beyond ASCII. Text keeps its origins. INVALID_ARGUMENT: undefined, or the budget is
// used up.
absl::StatusOr<MarkedText> TemplateJson(const TemplateValue& value, RenderBudget& budget);

}  // namespace winnow
