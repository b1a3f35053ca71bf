#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plan/kv_plan.h"

namespace winnow {

// Where one source rank's stored KV lies in one flat block of host memory: per layer K
// [head][slot][head_dim], then V of the same shape, then positions [row][slot] as uint32. Written
// by the engine, read by the sender; a run of slots of one head is contiguous.
class KvLayout {
 public:
  KvLayout() = default;
  // `head_count` KV heads of the rank; `element_bytes` of one K or V element.
  KvLayout(const KvPlan& plan, int head_count, int element_bytes) : element_bytes_(element_bytes) {
    layers_.reserve(plan.num_layers);
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      Layer l;
      l.slots = plan.entries(layer);
      l.row_bytes = int64_t{plan.head_dim} * element_bytes;
      l.key = total_bytes_;
      l.value = l.key + head_count * l.slots * l.row_bytes;
      l.positions = l.value + head_count * l.slots * l.row_bytes;
      l.position_rows =
          plan.form(layer) == KvForm::kPerHead ? head_count : plan.position_rows(layer);
      total_bytes_ = l.positions + l.position_rows * l.slots * 4;
      total_bytes_ = (total_bytes_ + 63) / 64 * 64;
      layers_.push_back(l);
    }
  }

  int64_t total_bytes() const { return total_bytes_; }
  int element_bytes() const { return element_bytes_; }
  int64_t slots(int layer) const { return layers_[layer].slots; }
  // Bytes of one slot of one head.
  int64_t row_bytes(int layer) const { return layers_[layer].row_bytes; }
  // Rows of positions that this rank holds: its heads, one shared row, or none.
  int position_rows(int layer) const { return layers_[layer].position_rows; }

  int64_t key_offset(int layer, int local_head, int64_t slot) const {
    const Layer& l = layers_[layer];
    return l.key + (local_head * l.slots + slot) * l.row_bytes;
  }
  int64_t value_offset(int layer, int local_head, int64_t slot) const {
    const Layer& l = layers_[layer];
    return l.value + (local_head * l.slots + slot) * l.row_bytes;
  }
  int64_t positions_offset(int layer, int row, int64_t slot) const {
    const Layer& l = layers_[layer];
    return l.positions + (row * l.slots + slot) * 4;
  }

 private:
  struct Layer {
    int64_t slots = 0, row_bytes = 0, key = 0, value = 0, positions = 0;
    int position_rows = 0;
  };
  std::vector<Layer> layers_;
  int64_t total_bytes_ = 0;
  int element_bytes_ = 0;
};

}  // namespace winnow
