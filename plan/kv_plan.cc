#include "plan/kv_plan.h"

#include <algorithm>

namespace winnow {

int64_t KvPlan::payload_bytes(int element_bytes) const {
  int64_t entries_of_all_layers = 0;
  for (int layer = 0; layer < num_layers; ++layer) entries_of_all_layers += entries(layer);
  return entries_of_all_layers * num_kv_heads * 2 * head_dim * element_bytes;
}

int64_t KvPlan::full_payload_bytes(int element_bytes) const {
  return num_prompt_tokens * num_layers * num_kv_heads * 2 * head_dim * element_bytes;
}

std::vector<PositionSpan> ProtectedSpans(const SelectionConfig& config, int64_t end) {
  std::vector<PositionSpan> spans = config.protected_spans;
  spans.push_back({0, config.protected_prefix});
  std::sort(spans.begin(), spans.end(),
            [](const PositionSpan& a, const PositionSpan& b) { return a.begin < b.begin; });
  std::vector<PositionSpan> merged;
  for (PositionSpan span : spans) {
    span.end = std::min(span.end, end);
    if (span.begin >= span.end) continue;
    if (!merged.empty() && span.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

KvPlan MakeKvPlan(const ModelShape& shape, const SelectionConfig& config,
                  int64_t num_prompt_tokens) {
  KvPlan plan;
  plan.num_prompt_tokens = num_prompt_tokens;
  plan.num_kept = num_prompt_tokens;
  plan.num_layers = shape.num_layers;
  plan.num_kv_heads = shape.num_kv_heads;
  plan.head_dim = shape.head_dim;
  plan.first_compacted_layer = shape.num_layers;
  plan.first_scored_layer = shape.num_layers;
  plan.first_aggregated_layer = shape.num_layers;
  plan.pivot_layer = shape.num_layers - 1;
  if (config.policy == SelectionPolicy::kFull) return plan;

  const int64_t always_kept = int64_t{config.window} + config.window_offset;  // rows E..
  const int64_t window_begin = num_prompt_tokens - always_kept;
  int64_t kept = std::max(
      {always_kept + 1, config.min_kept_tokens, config.keep_ppm * num_prompt_tokens / 1'000'000});
  int64_t protected_tokens = 0;
  for (const PositionSpan& span : ProtectedSpans(config, window_begin))
    protected_tokens += span.end - span.begin;
  kept = std::max(kept, protected_tokens + always_kept);
  if (num_prompt_tokens <= kept || num_prompt_tokens < config.min_prompt_tokens) return plan;

  const int lp = config.selection_layer;
  plan.pruned = true;
  plan.num_kept = kept;
  plan.window_begin = window_begin;
  plan.pivot_layer = lp;
  plan.first_compacted_layer = config.uncompacted_layers;
  plan.first_aggregated_layer = std::max(0, lp - config.aggregate_layers + 1);
  plan.first_scored_layer = std::min(config.uncompacted_layers, plan.first_aggregated_layer);
  return plan;
}

}  // namespace winnow
