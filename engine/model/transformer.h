#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/comm/communicator.h"
#include "engine/device/backend.h"
#include "engine/model/attention_block.h"
#include "engine/model/dense_feed_forward.h"
#include "engine/model/weights.h"

namespace winnow {

// The forward pieces of a model that prefill and decode share, on one rank. Transformer itself
// keeps the residual stream: embedding, norms, the sums over the ranks that are still on their way,
// logits. What a layer adds to the stream comes from AttentionBlock and DenseFeedForward.
//
// Hidden rows `x` are whole on every rank; heads and MLP columns are the rank's. Everything goes to
// the backend's queue; row counts are ≤ max_rows (≤ max_logit_rows for Logits), so the scratch
// memory is allocated once. All pointers are device memory of the backend's dtype unless said
// otherwise.
class Transformer {
 public:
  // `weights`, `backend` and `communicator` must outlive it. RESOURCE_EXHAUSTED: no memory for the
  // scratch rows.
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const ModelWeights& weights,
                                                             Backend& backend,
                                                             Communicator& communicator,
                                                             int64_t max_rows,
                                                             int64_t max_logit_rows);

  // x[rows][hidden] = embeddings of ids[rows] (device int32).
  absl::Status Embed(const int32_t* ids, int64_t rows, void* x, Deadline deadline);

  // Before the first call for a step: what a failed one has left is forgotten.
  void BeginStep() { unfinished_.clear(); }

  using KvSlots = AttentionBlock::KvSlots;
  struct InputParams {
    int layer = 0;
    void* x = nullptr;
    int64_t rows = 0;
    const int32_t* positions = nullptr;  // [rows]
    bool with_q = true;
    bool with_kv = true;
    // Of sequences one behind the other in the rows; empty: keys and values stay in the scratch.
    absl::Span<const KvSlots> slots;
  };
  // What a layer's attention reads: scratch, valid until the next ProjectInput.
  struct Input {
    const void* normed = nullptr;  // [rows][hidden]
    const void* q = nullptr;       // [rows][q_count][head_dim], rotated
    // [rows][2][kv_count][head_dim], keys neither normed nor rotated; undefined with slots.
    const void* kv = nullptr;
  };
  absl::StatusOr<Input> ProjectInput(const InputParams& params, Deadline deadline);
  // Queries of more normed rows, into the scratch of an Input without any.
  const void* ProjectQ(int layer, const void* normed, const int32_t* positions, int64_t rows);
  // Scratch for an attention op's output: [rows][q_count][head_dim].
  void* attention_out() { return attention_->attention_out(); }

  // x += o(attention), then x += mlp(norm(x)), with the all-reduces of tensor parallelism. Between
  // layers x is whole only after the next ProjectInput, of the same rows, or Settle.
  absl::Status FinishLayer(int layer, const void* attention, void* x, int64_t rows,
                           Deadline deadline);
  absl::Status Settle(void* x, Deadline deadline);

  // logits[rows][vocab] f32 (device) of the last layer's rows, whole on every rank.
  absl::Status Logits(void* x, int64_t rows, float* logits, Deadline deadline);

  // How a layer's keys are normed and rotated when they are stored.
  HeadNorm key_norm(int layer) const { return attention_->key_norm(layer); }
  float rope_scale() const { return attention_->rope_scale(); }

 private:
  Transformer(const ModelWeights& weights, Backend& backend, Communicator& communicator)
      : weights_(weights), backend_(backend), communicator_(communicator) {}
  // Rows whose sums over the ranks are made together.
  struct Part {
    int index = 0;
    int64_t begin = 0, count = 0;
    bool overlapped = false;  // its sums overlap with the other part's compute
  };
  using Parts = std::vector<Part>;
  // All rows, or two parts where the sums of half the rows are large enough to overlap: one part
  // computes while the sums of the other are on their way.
  Parts Split(int64_t rows) const;

  // One rank's products are the whole sum and go straight into the residual stream.
  bool is_alone() const { return communicator_.size() == 1; }
  // Where a product that is to be added to the part's rows of x goes.
  void* Delta(const Part& part, void* x) const;
  Communicator::Sum SumOf(const Part& part) const;
  absl::Status BeginSum(const Part& part, Deadline deadline);
  // What is to be added to the part's rows of x.
  absl::StatusOr<Addends> JoinSum(const Part& part, Deadline deadline);
  // x += delta and its norm into `out` (null: none), of the part's rows of both.
  void AddAndNorm(const Part& part, void* x, const Addends& delta, const void* weight, void* out);
  int64_t hidden_bytes() const {  // of a row of x
    return int64_t{weights_.config.shape.hidden} * ElementSize(backend_.dtype());
  }

  const ModelWeights& weights_;
  Backend& backend_;
  Communicator& communicator_;
  std::unique_ptr<AttentionBlock> attention_;
  std::unique_ptr<DenseFeedForward> feed_forward_;
  Buffer normed_, delta_, logits_shard_, logits_gathered_;
  Buffer inbox_;      // [parts 2][size − 1][a part's rows][hidden], for overlapped sums
  Parts unfinished_;  // of the last layer, whose last sums are not yet added to x
};

}  // namespace winnow
