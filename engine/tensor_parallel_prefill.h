#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "common/clock.h"
#include "common/executor.h"
#include "engine/comm/communicator.h"
#include "engine/comm/rank_group.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"
#include "engine/prefill_engine.h"
#include "engine/prefill_rank.h"
#include "engine/ranks/rank_parts.h"
#include "engine/select/token_selector.h"

namespace winnow {

// PrefillEngine on a group of ranks, each with its backend, communicator and shard.
class TensorParallelPrefill final : public PrefillEngine {
 public:
  struct Options {
    RankParts parts;
    const Clock* clock = nullptr;
    int64_t max_step_rows = 1024;
    int64_t max_context = 0;  // 0: the model's
    absl::Duration step_timeout = absl::Seconds(120);
    // Of an unpruned prompt the last layer computes the last row alone. Without it, all rows: what
    // others do, to compare with.
    bool trim_last_layer = true;
    bool zero_freed_staging = true;
    // Must outlive the engine; null: PolicySelectors.
    const SelectorFactory* selectors = nullptr;
  };

  static absl::StatusOr<std::unique_ptr<TensorParallelPrefill>> Create(Options options);

  const ModelShape& shape() const override { return shape_; }
  int tensor_parallel() const override { return static_cast<int>(options_.parts.ranks.size()); }
  int kv_element_bytes() const override {
    return ElementSize(options_.parts.ranks[0].backend->types().kv);
  }
  int64_t max_step_rows() const override { return options_.max_step_rows; }
  PrefillMemory MemoryFor(const PrefillPlan& plan, const SelectionConfig& selection) const override;
  absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan) override;
  absl::StatusOr<int64_t> Admit(PrefillSpec spec, std::shared_ptr<KvStaging> staging,
                                KvSink* sink) override;
  absl::StatusOr<PrefillProgress> Progress(int64_t sequence) const override;
  absl::StatusOr<std::vector<PrefillOutput>> Step(absl::Span<const PrefillStepItem> items) override;
  void Release(int64_t sequence) override;

 private:
  struct Sequence {
    PrefillSpec spec;
    std::shared_ptr<KvStaging> staging;
    KvSink* sink = nullptr;
    PrefillProgress progress;
    int64_t device_bytes = 0;                                     // PrefillMemory::needed
    std::vector<std::shared_ptr<const StageTimeline>> timelines;  // of its steps, by rank 0
    std::vector<std::unique_ptr<PrefillState>> ranks;
  };
  // Items whose passes run together.
  using Group = std::vector<PrefillStepItem>;

  explicit TensorParallelPrefill(Options options);
  absl::Status CheckSpec(const PrefillSpec& spec) const;
  absl::Status CheckItems(absl::Span<const PrefillStepItem> items) const;
  const PrefillPass& PassOf(const PrefillStepItem& item) const;
  std::vector<Group> MakeGroups(absl::Span<const PrefillStepItem> items) const;
  std::vector<PackedItem> Pack(const Group& group, int rank);
  absl::Status RunGroup(const Group& group);
  void Advance(const PrefillStepItem& item);
  PrefillOutput Collect(const PrefillStepItem& item) const;
  // What the selection gave, and whether it is sound.
  absl::Status CollectSelection(const Sequence& sequence, PrefillOutput& output) const;
  void Free(std::unique_ptr<Sequence> released);

  const Options options_;
  const ModelShape shape_;
  const SelectorFactory& selectors_;
  std::shared_ptr<Executor> zeroer_;  // of freed staging; shared with what is not yet freed
  std::vector<std::unique_ptr<PrefillRank>> ranks_;
  std::map<int64_t, std::unique_ptr<Sequence>> sequences_;
  int64_t next_sequence_ = 1;
  int64_t total_bytes_ = 0;               // PrefillMemory::total
  std::atomic<int64_t> taken_bytes_ = 0;  // by the sequences
  // Frees released sequences when nothing that is enqueued uses their memory any more. Joined
  // before anything else goes.
  Executor retirer_{"prefill-retire", 1};
};

}  // namespace winnow
