// Cross-Layer Attention Aggregation, arXiv 2602.16054 (docs/claa.md).
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "plan/kept_tokens.h"
#include "plan/policy.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {
namespace {

absl::Status Check(const SelectionConfig& config, const ModelShape& shape) {
  if (config.pool_kernel % 2 == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("selection: pool_kernel must be odd, got ", config.pool_kernel));
  }
  WINNOW_RETURN_IF_ERROR(
      CheckSelectionRange("selection_layer", config.selection_layer, 0, shape.num_layers - 2));
  WINNOW_RETURN_IF_ERROR(CheckSelectionRange("aggregate_layers", config.aggregate_layers, 1,
                                             config.selection_layer + 1));
  return CheckSelectionRange("uncompacted_layers", config.uncompacted_layers, 0,
                             config.selection_layer + 1);
}

// All N rows through the layers before the selection layer and its K,V; the C kept rows from its
// attention on.
PrefillPlan MakePlan(const ModelShape& shape, const SelectionConfig& config,
                     int64_t num_prompt_tokens) {
  const int64_t always_kept = int64_t{config.window} + config.window_offset;  // rows E..
  const int64_t kept = NumKept(config, num_prompt_tokens, always_kept);
  if (num_prompt_tokens <= kept || num_prompt_tokens < config.min_prompt_tokens) {
    return UnprunedPlan(shape, num_prompt_tokens);
  }
  const int lp = config.selection_layer, m = config.uncompacted_layers;
  PrefillPlan plan;
  plan.kv = EmptyKvPlan(shape, num_prompt_tokens);
  plan.kv.tail_begin = num_prompt_tokens - always_kept;  // E
  if (m > 0) plan.kv.segments.push_back({m, KvForm::kAll, num_prompt_tokens});
  if (m <= lp) plan.kv.segments.push_back({lp + 1 - m, KvForm::kPerHead, kept});
  plan.kv.segments.push_back({shape.num_layers - 1 - lp, KvForm::kSelected, kept});
  plan.passes = {{.num_rows = num_prompt_tokens,
                  .last_layer = lp,
                  .first_scored_layer = std::min(m, FirstAggregatedLayer(config)),
                  .stores_kv = true},
                 {.source = 0,
                  .is_selected = true,
                  .num_rows = kept,
                  .first_layer = lp,
                  .last_layer = shape.num_layers - 1,
                  .first_scored_layer = shape.num_layers,
                  .stores_kv = true,
                  .makes_logits = true}};
  return plan;
}

}  // namespace

const Policy kClaaPolicy{.name = "claa",
                         .summary =
                             "keeps the tokens that the last rows attend to most, by the "
                             "maximum over several layers",
                         .check = Check,
                         .make_plan = MakePlan,
                         .choose_rows = nullptr};

}  // namespace winnow
