#include "plan/policy.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {
namespace {

absl::Status Check(const SelectionConfig&, const ModelShape&) { return absl::OkStatus(); }

PrefillPlan MakePlan(const ModelShape& shape, const SelectionConfig&, int64_t num_prompt_tokens) {
  return UnprunedPlan(shape, num_prompt_tokens);
}

}  // namespace

const Policy kFullPolicy{.name = "full",
                         .summary = "keep every token",
                         .check = Check,
                         .make_plan = MakePlan,
                         .choose_rows = nullptr};

}  // namespace winnow
