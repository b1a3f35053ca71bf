#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/backend.h"
#include "engine/kv/kv_staging.h"
#include "engine/kv_sink.h"
#include "engine/prefill_engine.h"
#include "engine/select/claa.h"

namespace winnow {

// One sequence's memory on one rank while its prefill runs.
class PrefillState {
 public:
  // `heads` of this rank. RESOURCE_EXHAUSTED. `spec`, `backend` and `communicator` must outlive it.
  static absl::StatusOr<std::unique_ptr<PrefillState>> Create(const PrefillSpec& spec,
                                                              const ModelShape& shape,
                                                              const HeadSplit& heads,
                                                              Backend& backend,
                                                              Communicator& communicator);
  // Device memory that Create takes on a rank of `num_ranks`.
  static int64_t DeviceBytes(const KvPlan& plan, const SelectionConfig& selection,
                             const ModelShape& shape, const HeadSplit& heads,
                             const Backend& backend, int num_ranks);

  const KvPlan& plan() const { return spec_.plan; }
  // Cached K or V of a layer, [kv_count][capacity][head_dim]: capacity N up to the pivot, then C.
  void* keys(int layer) const { return cache(layer, 0); }
  void* values(int layer) const { return cache(layer, 1); }
  int64_t capacity(int layer) const {
    return layer <= plan().pivot_layer ? plan().num_prompt_tokens : plan().num_kept;
  }

  const int32_t* ids() const { return ids_.data<int32_t>(); }  // [N], device
  // Rows entering the pivot layer, kept from phase kPrompt for kKept: all N when pruned, else only
  // the last.
  void* pivot_rows() const { return pivot_rows_.data(); }
  // First row held by pivot_rows().
  int64_t pivot_rows_begin() const { return plan().pruned ? 0 : plan().num_prompt_tokens - 1; }

  // Two places in turns, for rows of a head-compacted layer on their way to the host.
  void* next_gather_workspace() {
    gather_turn_ = 1 - gather_turn_;
    return gather_workspace_.at(gather_turn_ * gather_workspace_.bytes() / 2);
  }

  ClaaState* claa() const { return claa_.get(); }          // null when not pruned
  float* logits() const { return logits_.data<float>(); }  // [vocab], device

  // Host copies for the end of the prefill, filled by CopyResults.
  struct Results {
    Buffer logits;     // [vocab] f32
    Buffer positions;  // [C] int32
    Buffer scores;     // [E + 1] f32: S, then the NaN flag
  };
  const Results& results() const { return results_; }
  // Enqueues the copies.
  void CopyResults();

 private:
  struct Sizes;
  PrefillState(const PrefillSpec& spec, const ModelShape& shape, const HeadSplit& heads,
               Backend& backend)
      : spec_(spec), shape_(shape), heads_(heads), backend_(backend) {}
  absl::Status Allocate(Communicator& communicator);
  void* cache(int layer, int which) const;

  const PrefillSpec& spec_;
  const ModelShape& shape_;
  const HeadSplit heads_;
  Backend& backend_;
  Buffer ids_;
  Buffer prompt_kv_;  // [pivot + 1][K, V][kv_count][N][head_dim]
  Buffer kept_kv_;    // [L − 1 − pivot][K, V][kv_count][C][head_dim]
  Buffer pivot_rows_;
  Buffer gather_workspace_;  // [2][kv_count][C][head_dim], when layers are compacted per head
  size_t gather_turn_ = 0;
  Buffer logits_;
  std::unique_ptr<ClaaState> claa_;
  Results results_;
};

}  // namespace winnow
