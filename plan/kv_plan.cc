#include "plan/kv_plan.h"

namespace winnow {

const KvSegment& KvPlan::segment(int layer) const {
  size_t index = 0;
  // Few segments: a walk is quicker than a table of layers to keep beside them.
  while (layer >= segments[index].num_layers) layer -= segments[index++].num_layers;
  return segments[index];
}

int KvPlan::position_rows(int layer) const {
  switch (form(layer)) {
    case KvForm::kAll:
      return 0;
    case KvForm::kPerHead:
      return num_kv_heads;
    case KvForm::kSelected:
      return 1;
  }
  return 0;
}

int64_t KvPlan::payload_bytes(int element_bytes) const {
  int64_t entries = 0;
  for (const KvSegment& segment : segments) entries += segment.num_layers * segment.entries;
  return entries * num_kv_heads * 2 * head_dim * element_bytes;
}

int64_t KvPlan::full_payload_bytes(int element_bytes) const {
  return num_prompt_tokens * num_layers * num_kv_heads * 2 * head_dim * element_bytes;
}

KvPlan EmptyKvPlan(const ModelShape& shape, int64_t num_prompt_tokens) {
  return {.num_prompt_tokens = num_prompt_tokens,
          .num_layers = shape.num_layers,
          .num_kv_heads = shape.num_kv_heads,
          .head_dim = shape.head_dim,
          .next_position = num_prompt_tokens,
          .tail_begin = num_prompt_tokens};
}

}  // namespace winnow
