#pragma once

#include <cstdint>
#include <vector>

#include "plan/model_shape.h"

namespace winnow {

// Which positions a layer's stored K and V hold.
enum class KvForm {
  kAll,       // positions 0..entries−1; no list of positions is shipped
  kPerHead,   // entries chosen by each KV head on its own: one ascending list per head
  kSelected,  // entries chosen for all heads alike: one ascending list
};

// Neighbouring layers that store the same.
struct KvSegment {
  int num_layers = 0;
  KvForm form = KvForm::kAll;
  int64_t entries = 0;  // K (or V) entries of one KV head in each of the layers

  friend bool operator==(const KvSegment&, const KvSegment&) = default;
};

// What one prompt stores and ships: geometry alone, whatever policy led to it. Every KV head of a
// layer holds the same number of entries. Prefill worker, wire and decode worker share the plan.
struct KvPlan {
  int64_t num_prompt_tokens = 0;  // N
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  std::vector<KvSegment> segments;  // from layer 0 up; together num_layers layers
  int64_t next_position = 0;        // where the first generated token enters
  // Lists of positions end in every position tail_begin..N−1; N: no list is shipped, or none has a
  // tail.
  int64_t tail_begin = 0;

  // REQUIRES: 0 ≤ layer < num_layers.
  const KvSegment& segment(int layer) const;
  KvForm form(int layer) const { return segment(layer).form; }
  int64_t entries(int layer) const { return segment(layer).entries; }
  // Lists of positions that a layer ships: one per KV head, one for all heads, or none.
  int position_rows(int layer) const;

  // K + V payload of all layers and KV heads, each counted once, without positions and framing.
  int64_t payload_bytes(int element_bytes) const;
  // The same where every layer stores all N positions.
  int64_t full_payload_bytes(int element_bytes) const;

  friend bool operator==(const KvPlan&, const KvPlan&) = default;
};

// A plan for `shape` that stores nothing yet: the caller adds segments.
KvPlan EmptyKvPlan(const ModelShape& shape, int64_t num_prompt_tokens);

}  // namespace winnow
