#pragma once

#include <cstdint>
#include <vector>

#include "plan/model_shape.h"
#include "plan/selection_config.h"

namespace winnow {

// Which positions a layer's stored K and V hold.
enum class KvLayerForm {
  kAll,       // positions 0..N−1
  kPerHead,   // entries chosen by each KV head on its own, ascending
  kSelected,  // the C selected positions, the same for all heads, ascending
};

// What one prompt stores and ships per layer: a pure function of the model's shape, the config and
// N, computed here and nowhere else. Every KV head of a layer holds the same number of entries.
struct KvPlan {
  int64_t num_prompt_tokens = 0;  // N
  bool pruned = false;            // false: equal to a run with policy `full`
  int64_t num_kept = 0;           // C; N when nothing is pruned
  int64_t window_begin = 0;  // E = N − z − W; rows E.. are always kept. Meaningful when pruned.
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int first_compacted_layer = 0;  // m; num_layers when nothing is pruned
  // The last layer whose K,V exist for all N rows. What follows its K,V is computed for the kept
  // rows only: lp when pruned; L−1 otherwise, where the only row kept is the last one.
  int pivot_layer = 0;
  // First layer whose scores are needed, min(m, lp−n+1) and not below 0; num_layers when nothing is
  // pruned. Layers first_scored_layer..pivot_layer are scored.
  int first_scored_layer = 0;
  // First layer whose scores take part in the selection, max(0, lp−n+1).
  int first_aggregated_layer = 0;

  KvLayerForm form(int layer) const {
    if (!pruned || layer < first_compacted_layer) return KvLayerForm::kAll;
    return layer <= pivot_layer ? KvLayerForm::kPerHead : KvLayerForm::kSelected;
  }
  // K (or V) entries of one KV head in `layer`.
  int64_t entries(int layer) const {
    return form(layer) == KvLayerForm::kAll ? num_prompt_tokens : num_kept;
  }
  // Rows computed after the pivot's K,V: C when pruned, otherwise 1.
  int64_t num_phase2_rows() const { return pruned ? num_kept : 1; }
  bool is_scored(int layer) const {
    return pruned && layer >= first_scored_layer && layer <= pivot_layer;
  }
  // Position lists that a layer ships: one per KV head, one for all, or none (0..N−1 is implied).
  int position_rows(int layer) const {
    switch (form(layer)) {
      case KvLayerForm::kAll:
        return 0;
      case KvLayerForm::kPerHead:
        return num_kv_heads;
      case KvLayerForm::kSelected:
        return 1;
    }
    return 0;
  }
  // K + V payload of all layers and KV heads, each counted once, without positions and framing.
  int64_t payload_bytes(int element_bytes) const;
  // The same for an unpruned run.
  int64_t full_payload_bytes(int element_bytes) const;

  friend bool operator==(const KvPlan&, const KvPlan&) = default;
};

// REQUIRES: `config` came from ResolveSelectionConfig for `shape`; num_prompt_tokens ≥ 1.
KvPlan MakeKvPlan(const ModelShape& shape, const SelectionConfig& config,
                  int64_t num_prompt_tokens);

// Positions below `end` that must be kept: the prefix and the spans, clipped, merged, ascending.
std::vector<PositionSpan> ProtectedSpans(const SelectionConfig& config, int64_t end);

}  // namespace winnow
