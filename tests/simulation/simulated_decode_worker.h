#pragma once

#include <map>
#include <string>

#include "decode_worker/decode_core.h"
#include "tests/simulation/simulated_engine.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// KV memory that is counted and never touched.
class SimulatedKvMemory final : public KvTarget {
 public:
  explicit SimulatedKvMemory(int64_t entries) : total_(entries) {}

  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) override;
  void Write(int64_t, const ChunkHeader&, const std::byte*) override {}
  void Free(int64_t handle) override;
  Blocks blocks() const override { return {total_, total_ - used_}; }

 private:
  const int64_t total_;
  int64_t used_ = 0;
  int64_t next_handle_ = 1;
  std::map<int64_t, int64_t> entries_;  // by handle
};

// A decode worker: the real core on an engine that only takes its time. Its calls are what arrives
// by the network; a prompt's KV arrives with its commit, whole.
class SimulatedDecodeWorker {
 public:
  struct Options {
    std::string address;
    // K,V entries of one head over all layers; 1.4 million tokens of 8B's unpruned KV are 180 GB.
    int64_t kv_entries = int64_t{1'400'000} * 32;
  };
  SimulatedDecodeWorker(VirtualClock& clock, const CostModel& cost, const ModelShape& shape,
                        Options options);

  // The reservation's id, or RESOURCE_EXHAUSTED with a hint.
  absl::StatusOr<std::string> Reserve(const KvPlan& plan, const std::string& request_id,
                                      uint32_t attempt, int max_tokens);
  absl::Status Commit(const std::string& reservation_id, const std::vector<int32_t>& tokens,
                      const SamplingParams& sampling);
  // By the prefill worker, before the commit.
  void AbortReservation(const std::string& reservation_id, const std::string& reason);

  DecodeCore& core() { return core_; }
  v1::WorkerInfo Info() const;
  int64_t used_entries() const;

 private:
  // What the prefill worker knows of its reservation.
  struct Handoff {
    TransferIdentity identity;
    KvPlan plan;
  };
  DecodeCore::Options CoreOptions(const ModelShape& shape);
  absl::StatusOr<StreamSummary> SendKv(const std::string& reservation_id, const Handoff& handoff);

  const Options options_;
  int64_t next_id_ = 1;
  std::map<std::string, Handoff> handoffs_;  // by reservation, before the commit
  SimulatedDecodeEngine engine_;
  DecodeEvents events_;
  DecodeCore core_;
};

}  // namespace winnow
