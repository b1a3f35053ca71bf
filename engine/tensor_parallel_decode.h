#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/rank_group.h"
#include "engine/decode_engine.h"
#include "engine/kv/paged_kv.h"
#include "engine/model/transformer.h"
#include "engine/ranks/rank_parts.h"

namespace winnow {

// DecodeEngine over paged KV on a group of ranks.
class TensorParallelDecode final : public DecodeEngine {
 public:
  struct Options {
    RankParts parts;
    PagedKv* kv = nullptr;
    const Clock* clock = nullptr;
    int max_batch = 64;
    int64_t max_context = 0;  // 0: the model's
    absl::Duration step_timeout = absl::Seconds(60);
  };
  // INVALID_ARGUMENT: no ranks, or a batch below 1. RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<TensorParallelDecode>> Create(Options options);

  const ModelShape& shape() const override { return shape_; }
  int max_batch() const override { return options_.max_batch; }
  absl::StatusOr<std::vector<int32_t>> Step(absl::Span<const DecodeStepItem> items) override;

 private:
  // What all ranks read in a step, one array of int32: ids and positions [batch], lengths and slots
  // [layer][batch]. These are indexes into it.
  struct StepLayout {
    int64_t batch = 0, layers = 0;

    int64_t ids() const { return 0; }
    int64_t positions() const { return batch; }
    int64_t lengths(int64_t layer) const { return (2 + layer) * batch; }
    int64_t slots(int64_t layer) const { return lengths(layers + layer); }
    int64_t size() const { return lengths(2 * layers); }
  };
  struct RankState {
    std::unique_ptr<Transformer> transformer;
    Buffer inputs;       // StepLayout's, device
    Buffer block_table;  // [max_batch][layer][max_blocks] int32, device
    Buffer x;            // [max_batch][hidden]
    Buffer logits;       // [max_batch][vocab] f32
    Buffer likeliest;    // [max_batch] int32; rank 0's only
    Buffer workspace;    // of Backend::PagedAttention, at any batch
  };
  explicit TensorParallelDecode(Options options);
  absl::Status Allocate();
  int64_t max_blocks() const {  // of a layer
    return (shape_.max_context + options_.kv->block_size() - 1) / options_.kv->block_size();
  }
  int64_t table_row() const { return shape_.num_layers * max_blocks(); }  // ids of one sequence
  // INVALID_ARGUMENT: an item whose entry would lie outside its reservation, which is somebody
  // else's memory.
  absl::Status Check(const DecodeStepItem& item, const PagedKv::Sequence* sequence) const;
  absl::Status FillInputs(absl::Span<const DecodeStepItem> items);
  // The blocks of a sequence never change, so that a row is written when another one takes it.
  void FillTableRow(int64_t row, int64_t handle, const PagedKv::Sequence& sequence);
  absl::Status RunRank(int rank, absl::Span<const DecodeStepItem> items, Deadline deadline);
  // All but what differs from step to step of one batch size.
  absl::Status Enqueue(int rank, Deadline deadline);
  absl::Status RunLayer(int rank, int layer, Deadline deadline);
  PagedAttentionParams Attention(int rank, int64_t batch) const;  // without pointers to inputs

  const Options options_;
  const ModelShape shape_;
  StepLayout step_;     // of the step that runs
  Buffer inputs_;       // its inputs, host
  Buffer block_table_;  // as the ranks', host
  Buffer logits_;       // [max_batch][vocab] f32, host: rows of items that sample, by rank 0
  Buffer likeliest_;    // [max_batch] int32, host, by rank 0
  std::vector<int64_t> row_handles_;  // whose blocks a row of the table holds; 0: nobody's
  std::vector<int64_t> new_rows_;     // of the table, in this step
  std::vector<RankState> ranks_;
};

}  // namespace winnow
