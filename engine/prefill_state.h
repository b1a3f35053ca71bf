#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/backend.h"
#include "engine/prefill_engine.h"
#include "engine/select/token_selector.h"

namespace winnow {

// One sequence's memory on one rank while its prefill runs.
class PrefillState {
 public:
  // `heads` of this rank. RESOURCE_EXHAUSTED. `spec`, `backend` and `communicator` must outlive it.
  static absl::StatusOr<std::unique_ptr<PrefillState>> Create(
      const PrefillSpec& spec, const ModelShape& shape, const HeadSplit& heads,
      const SelectorFactory& selectors, Backend& backend, Communicator& communicator);
  // Device memory that Create takes on a rank of `num_ranks`.
  static int64_t DeviceBytes(const SelectorContext& context, const ModelShape& shape,
                             const SelectorFactory& selectors, int num_ranks);

  const PrefillPlan& plan() const { return spec_.plan; }
  // Cached K or V that `pass` makes of a layer, [kv_count][rows of the pass][head_dim].
  // REQUIRES: FirstKvLayer(pass) ≤ layer ≤ its last layer.
  void* keys(int pass, int layer) const { return cache(pass, layer, 0); }
  void* values(int pass, int layer) const { return cache(pass, layer, 1); }

  const int32_t* ids() const { return ids_.data<int32_t>(); }  // [N], device
  // Positions in the prompt of a pass's rows, [rows of the pass], device; null: row r is at r.
  const int32_t* positions(int pass) const;
  // Rows entering the last layer of a pass from which others go on, [rows of the pass][hidden];
  // null for other passes.
  void* held_rows(int pass) const { return passes_[pass].held_rows.data(); }

  // Two places in turns, for rows of a head-compacted layer on their way to the host.
  void* next_gather_workspace() {
    gather_turn_ = 1 - gather_turn_;
    return gather_workspace_.at(gather_turn_ * gather_workspace_.bytes() / 2);
  }

  TokenSelector* selector() const { return selector_.get(); }  // null when nothing is pruned
  float* logits() const { return logits_.data<float>(); }      // [vocab], device

  // Enqueues copies of logits and selection to the host, for the end of a pass with logits.
  void CopyResults();
  const float* host_logits() const { return host_logits_.data<float>(); }

 private:
  struct Sizes;
  struct PassMemory {
    Buffer kv;  // [layers whose K,V the pass makes][K, V][kv_count][rows][head_dim]
    Buffer held_rows;
  };
  PrefillState(const PrefillSpec& spec, const ModelShape& shape, const HeadSplit& heads,
               Backend& backend)
      : spec_(spec), shape_(shape), heads_(heads), backend_(backend) {}
  absl::Status Allocate(const SelectorFactory& selectors, Communicator& communicator);
  void* cache(int pass, int layer, int which) const;

  const PrefillSpec& spec_;
  const ModelShape& shape_;
  const HeadSplit heads_;
  Backend& backend_;
  Buffer ids_;
  std::vector<PassMemory> passes_;
  Buffer gather_workspace_;  // [2][kv_count][entries][head_dim], when heads choose their entries
  size_t gather_turn_ = 0;
  Buffer logits_, host_logits_;
  std::unique_ptr<TokenSelector> selector_;
};

}  // namespace winnow
