#include "wire/kv_plan_v2.h"

#include <algorithm>

#include "common/status_macros.h"
#include "wire/field_checks.h"

namespace winnow {
namespace {

absl::Status CheckEqual(const char* field, int64_t value, int64_t expected) {
  if (value == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " must be ", expected, ", got ", value));
}

absl::Status CheckUnpruned(const v1::KvPlan& p) {
  const int layers = p.num_layers();
  WINNOW_RETURN_IF_ERROR(
      CheckEqual("kv_plan.num_kept (nothing pruned)", p.num_kept(), p.num_prompt_tokens()));
  WINNOW_RETURN_IF_ERROR(CheckEqual("kv_plan.window_begin (nothing pruned)", p.window_begin(), 0));
  WINNOW_RETURN_IF_ERROR(
      CheckEqual("kv_plan.pivot_layer (nothing pruned)", p.pivot_layer(), layers - 1));
  WINNOW_RETURN_IF_ERROR(CheckEqual("kv_plan.first_compacted_layer (nothing pruned)",
                                    p.first_compacted_layer(), layers));
  WINNOW_RETURN_IF_ERROR(
      CheckEqual("kv_plan.first_scored_layer (nothing pruned)", p.first_scored_layer(), layers));
  return CheckEqual("kv_plan.first_aggregated_layer (nothing pruned)", p.first_aggregated_layer(),
                    layers);
}

// At least one window row, one token besides the rows that are always kept, one layer after the
// selection layer.
absl::Status CheckPruned(const v1::KvPlan& p) {
  const int64_t n = p.num_prompt_tokens();
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.window_begin", p.window_begin(), 1, n - 1));
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.num_kept", p.num_kept(), n - p.window_begin() + 1, n - 1));
  WINNOW_RETURN_IF_ERROR(
      CheckFieldRange("kv_plan.pivot_layer", p.pivot_layer(), 0, p.num_layers() - 2));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.first_compacted_layer", p.first_compacted_layer(),
                                         0, p.pivot_layer() + 1));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("kv_plan.first_aggregated_layer",
                                         p.first_aggregated_layer(), 0, p.pivot_layer()));
  return CheckEqual("kv_plan.first_scored_layer", p.first_scored_layer(),
                    std::min(p.first_compacted_layer(), p.first_aggregated_layer()));
}

}  // namespace

bool HasV2Form(const KvPlan& plan) {
  const int64_t n = plan.num_prompt_tokens;
  if (plan.next_position != n) return false;
  const std::vector<KvSegment>& segments = plan.segments;
  if (segments.size() == 1) return segments[0].form == KvForm::kAll && segments[0].entries == n;
  if (segments.size() > 3 || segments.back().form != KvForm::kSelected) return false;
  const int64_t kept = segments.back().entries;
  for (size_t i = 0; i + 1 < segments.size(); ++i) {
    const bool is_all = i == 0 && segments[i].form == KvForm::kAll && segments[i].entries == n;
    const bool is_last_before = i + 2 == segments.size();
    const bool is_per_head =
        is_last_before && segments[i].form == KvForm::kPerHead && segments[i].entries == kept;
    if (!is_all && !is_per_head) return false;
  }
  return true;
}

void AddV2Fields(const KvPlan& plan, v1::KvPlan* message) {
  const std::vector<KvSegment>& segments = plan.segments;
  const bool pruned = segments.size() > 1;
  const int compacted = segments[0].form == KvForm::kAll ? segments[0].num_layers : 0;
  const int pivot = pruned ? plan.num_layers - segments.back().num_layers - 1 : plan.num_layers - 1;
  // Which layers are scored is the prefill worker's own affair since version 3; version 2 only
  // wants the fields to agree.
  const int aggregated = pruned ? pivot : plan.num_layers;
  message->set_pruned(pruned);
  message->set_num_kept(segments.back().entries);
  message->set_window_begin(pruned ? plan.tail_begin : 0);
  message->set_first_compacted_layer(compacted);
  message->set_pivot_layer(pivot);
  message->set_first_aggregated_layer(aggregated);
  message->set_first_scored_layer(std::min(compacted, aggregated));
}

absl::StatusOr<KvPlan> ReadV2Fields(const v1::KvPlan& message, KvPlan plan) {
  plan.next_position = plan.num_prompt_tokens;
  if (!message.pruned()) {
    WINNOW_RETURN_IF_ERROR(CheckUnpruned(message));
    plan.tail_begin = plan.num_prompt_tokens;
    plan.segments = {{plan.num_layers, KvForm::kAll, plan.num_prompt_tokens}};
    return plan;
  }
  WINNOW_RETURN_IF_ERROR(CheckPruned(message));
  plan.tail_begin = message.window_begin();
  const int compacted = message.first_compacted_layer(), pivot = message.pivot_layer();
  if (compacted > 0) plan.segments.push_back({compacted, KvForm::kAll, plan.num_prompt_tokens});
  if (compacted <= pivot) {
    plan.segments.push_back({pivot + 1 - compacted, KvForm::kPerHead, message.num_kept()});
  }
  plan.segments.push_back({plan.num_layers - 1 - pivot, KvForm::kSelected, message.num_kept()});
  return plan;
}

}  // namespace winnow
