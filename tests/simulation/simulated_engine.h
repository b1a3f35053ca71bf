#pragma once

#include <map>
#include <vector>

#include "engine/decode_engine.h"
#include "engine/prefill_engine.h"
#include "tests/simulation/cost_model.h"
#include "tests/simulation/virtual_clock.h"

namespace winnow {

// A prefill engine that computes nothing and takes its time for it: a step keeps its worker busy
// for what the cost model says. The clock must outlive it.
class SimulatedPrefillEngine final : public PrefillEngine {
 public:
  SimulatedPrefillEngine(const VirtualClock& clock, const CostModel& cost, const ModelShape& shape,
                         int64_t max_step_rows)
      : clock_(clock), cost_(cost), shape_(shape), max_step_rows_(max_step_rows) {}

  const ModelShape& shape() const override { return shape_; }
  int tensor_parallel() const override { return 1; }
  int kv_element_bytes() const override { return 2; }
  int64_t max_step_rows() const override { return max_step_rows_; }
  PrefillMemory MemoryFor(const PrefillPlan&, const SelectionConfig&) const override { return {}; }
  absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan) override;
  absl::StatusOr<int64_t> Admit(PrefillSpec spec, std::shared_ptr<KvStaging> staging,
                                KvSink* sink) override;
  absl::StatusOr<PrefillProgress> Progress(int64_t sequence) const override;
  absl::StatusOr<std::vector<PrefillOutput>> Step(absl::Span<const PrefillStepItem> items) override;
  void Release(int64_t sequence) override { sequences_.erase(sequence); }

  absl::Duration busy() const { return busy_; }
  absl::Duration longest_step() const { return longest_step_; }
  int64_t computed_rows() const { return computed_rows_; }  // of first passes

 private:
  struct Sequence {
    PrefillPlan plan;
    PrefillProgress progress;
  };

  const VirtualClock& clock_;
  const CostModel cost_;
  const ModelShape shape_;
  const int64_t max_step_rows_;
  std::map<int64_t, Sequence> sequences_;
  int64_t next_sequence_ = 1;
  absl::Duration busy_, longest_step_;
  int64_t computed_rows_ = 0;
};

// Its other half: every token is 1.
class SimulatedDecodeEngine final : public DecodeEngine {
 public:
  SimulatedDecodeEngine(const VirtualClock& clock, const CostModel& cost, const ModelShape& shape)
      : clock_(clock), cost_(cost), shape_(shape) {}

  const ModelShape& shape() const override { return shape_; }
  int max_batch() const override { return 64; }
  absl::StatusOr<std::vector<int32_t>> Step(absl::Span<const DecodeStepItem> items) override {
    clock_.Sleep(cost_.DecodeStep(static_cast<int64_t>(items.size())));
    return std::vector<int32_t>(items.size(), 1);
  }

 private:
  const VirtualClock& clock_;
  const CostModel cost_;
  const ModelShape shape_;
};

}  // namespace winnow
