#pragma once

#include <cstdint>
#include <memory>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"

namespace winnow {

// The forward pieces of a decoder layer that prefill and decode share, on one rank. Hidden rows `x`
// are whole on every rank; heads and MLP columns are the rank's. Everything goes to the backend's
// queue; row counts are ≤ max_rows (≤ max_logit_rows for Logits), so the scratch memory is
// allocated once. All pointers are device memory of the backend's dtype unless said otherwise.
class Transformer {
 public:
  // `weights`, `backend` and `communicator` must outlive it. RESOURCE_EXHAUSTED: no memory for the
  // scratch rows.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelWeights& weights,
                                                             Backend& backend,
                                                             Communicator& communicator,
                                                             int64_t max_rows,
                                                             int64_t max_logit_rows = 64);

  // x[rows][hidden] = embeddings of ids[rows] (device int32).
  absl::Status Embed(const int32_t* ids, int64_t rows, void* x, Deadline deadline);

  // Normed input of a layer's attention: returned scratch [rows][hidden], valid until the next Norm
  // call.
  const void* InputNorm(int layer, void* x, int64_t rows);
  // Queries of normed rows, rotated: returned scratch [rows][q_count][head_dim], valid until the
  // next ProjectQ.
  const void* ProjectQ(int layer, const void* normed, const int32_t* positions, int64_t rows);
  // Keys and values of normed rows, keys neither normed nor rotated: returned scratch
  // [rows][2][kv_count][head_dim], valid until the next.
  const void* ProjectKv(int layer, const void* normed, int64_t rows);
  // Scratch for an attention op's output: [rows][q_count][head_dim].
  void* attention_out() { return attention_.data(); }

  // x += o(attention), then x += mlp(norm(x)), with the all-reduces of tensor parallelism.
  absl::Status FinishLayer(int layer, const void* attention, void* x, int64_t rows,
                           Deadline deadline);

  // logits[rows][vocab] f32 (device) of the last layer's rows, whole on every rank.
  absl::Status Logits(void* x, int64_t rows, float* logits, Deadline deadline);

  // How a layer's keys are normed and rotated when they are stored.
  HeadNorm key_norm(int layer) const { return Norm(weights_.layers[layer].k_norm); }
  float rope_scale() const { return static_cast<float>(weights_.config.rope.attention_factor); }

  const ModelWeights& weights() const { return weights_; }
  Backend& backend() { return backend_; }
  Communicator& communicator() { return communicator_; }
  int64_t max_rows() const { return max_rows_; }

 private:
  Transformer(const ModelWeights& weights, Backend& backend, Communicator& communicator,
              int64_t max_rows)
      : weights_(weights), backend_(backend), communicator_(communicator), max_rows_(max_rows) {}
  struct Rows {
    int64_t begin = 0, count = 0;
  };
  // Whole, or two parts where sums of half the rows are worth being made aside.
  absl::InlinedVector<Rows, 2> Parts(int64_t rows) const;
  absl::Status ReduceRows(void* delta, int64_t rows, Deadline deadline);
  HeadNorm Norm(const Buffer& weight) const {
    return {weight.data(), static_cast<float>(weights_.config.rms_norm_eps)};
  }

  const ModelWeights& weights_;
  Backend& backend_;
  Communicator& communicator_;
  const int64_t max_rows_;
  Buffer normed_, q_, kv_, attention_, delta_, mlp_, gated_workspace_, logits_shard_,
      logits_gathered_;
};

}  // namespace winnow
