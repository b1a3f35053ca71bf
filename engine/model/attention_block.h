#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"

namespace winnow {

// The attention half of the decoder layers on one rank, but for the attention op itself: query, key
// and value projections, QK norm, rotation, storing of keys and values, output projection. The op
// is the caller's, since prefill and decode keep keys and values in different stores. Everything
// goes to the backend's queue; all pointers are device memory of the backend's dtype unless said
// otherwise. Used by one thread at a time.
class AttentionBlock {
 public:
  // Scratch for `max_rows` rows. `weights` and `backend` must outlive the block.
  // RESOURCE_EXHAUSTED: no memory for the scratch.
  static absl::StatusOr<std::unique_ptr<AttentionBlock>> Create(const ModelWeights& weights,
                                                                Backend& backend, int64_t max_rows);

  // Rows of a step, which go to the rows [begin, begin + count) of the scratch.
  struct Rows {
    const void* normed = nullptr;        // [count][hidden]
    const int32_t* positions = nullptr;  // [count]
    int64_t begin = 0;
    int64_t count = 0;
  };
  // q = normed and rotated queries.
  void ProjectQ(int layer, const Rows& rows);

  // Where a sequence's new keys, rotated, and values go: slots slot_begin to slot_begin + rows.
  struct KvSlots {
    void* keys = nullptr;  // [kv_count][capacity][head_dim]
    void* values = nullptr;
    int64_t rows = 0;
    int64_t slot_begin = 0;
    int64_t capacity = 0;
  };
  // `slots`: of the sequences that follow each other in the step's rows. Empty: keys, neither
  // normed nor rotated, and values stay in `kv`, which is undefined otherwise.
  void ProjectKv(int layer, const Rows& rows, absl::Span<const KvSlots> slots);

  struct OutputParams {
    int layer = 0;
    const void* attention = nullptr;  // [rows][q_count][head_dim]
    int64_t rows = 0;
    void* out = nullptr;      // [rows][hidden]: the rank's share of the sum over all heads
    bool accumulate = false;  // out += instead of out =
  };
  void ProjectOutput(const OutputParams& params);

  const void* q() const { return q_.data(); }    // [max_rows][q_count][head_dim]
  const void* kv() const { return kv_.data(); }  // [max_rows][2][kv_count][head_dim]
  // Scratch for the attention op's output: [max_rows][q_count][head_dim].
  void* attention_out() { return attention_out_.data(); }
  int64_t q_row_bytes() const;

  // How a layer's keys are normed and rotated when they are stored.
  HeadNorm key_norm(int layer) const { return Norm(weights_.layers[layer].attention.k_norm); }
  float rope_scale() const { return static_cast<float>(weights_.config.rope.attention_factor); }

 private:
  AttentionBlock(const ModelWeights& weights, Backend& backend)
      : weights_(weights), backend_(backend) {}
  int64_t kv_row_bytes() const;
  // What the rows' keys and values, at `kv`, need to be stored in the slots; one per sequence.
  std::vector<StoreKvParams> Stores(int layer, const Rows& rows, void* kv,
                                    absl::Span<const KvSlots> slots) const;
  HeadNorm Norm(const Buffer& weight) const {
    return {weight.data(), static_cast<float>(weights_.config.rms_norm_eps)};
  }

  const ModelWeights& weights_;
  Backend& backend_;
  Buffer q_, kv_, attention_out_;
};

}  // namespace winnow
