#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/rank_group.h"
#include "engine/decode_engine.h"
#include "engine/kv/paged_kv.h"
#include "engine/model/transformer.h"

namespace winnow {

// DecodeEngine over paged KV on a group of ranks.
class TensorParallelDecode final : public DecodeEngine {
 public:
  struct Rank {
    Backend* backend = nullptr;
    Communicator* communicator = nullptr;
    const ModelWeights* weights = nullptr;
  };
  struct Options {
    std::vector<Rank> ranks;                    // by rank; all must outlive the engine
    RankGroup* group = nullptr;                 // of the same size
    std::function<void()> reset_communicators;  // called after a failed step
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
  // What all ranks read in a step, in memory that devices can read.
  struct Inputs {
    Buffer ids, positions;  // [batch] int32
    Buffer lengths, slots;  // [layer][batch] int32
    Buffer block_table;     // [layer][batch][max_blocks] int32
    Buffer logits;          // [batch][vocab] f32, host, written by rank 0
    int64_t max_blocks = 0;
  };
  struct RankState {
    std::unique_ptr<Transformer> transformer;
    Buffer x;       // [max_batch][hidden]
    Buffer logits;  // [max_batch][vocab] f32
  };
  explicit TensorParallelDecode(Options options);
  absl::Status Allocate();
  // INVALID_ARGUMENT: an item whose entry would lie outside its reservation, which is somebody
  // else's memory.
  absl::Status Check(const DecodeStepItem& item, const PagedKv::Sequence* sequence) const;
  absl::Status FillInputs(absl::Span<const DecodeStepItem> items);
  absl::Status RunRank(int rank, int64_t batch, Deadline deadline);
  absl::Status RunLayer(int rank, int layer, int64_t batch, Deadline deadline);

  const Options options_;
  const ModelShape shape_;
  Inputs inputs_;
  std::vector<RankState> ranks_;
};

}  // namespace winnow
