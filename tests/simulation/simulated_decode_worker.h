#pragma once

#include <map>
#include <string>

#include "decode_worker/decode_scheduler.h"
#include "tests/simulation/simulated_engine.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// A decode worker: the real scheduler on an engine that only takes its time, and reservations that
// are counted, not kept. Its calls are what arrives by the network.
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

  DecodeScheduler& scheduler() { return scheduler_; }
  v1::WorkerInfo Info() const;
  int64_t used_entries() const { return used_entries_; }

 private:
  struct Reservation {
    CommittedSequence sequence;  // as far as it is known
    int64_t entries = 0;
    bool committed = false;
  };
  void Free(const std::string& reservation_id);

  const Options options_;
  std::map<std::string, Reservation> reservations_;
  int64_t next_id_ = 1;
  int64_t used_entries_ = 0;
  SimulatedDecodeEngine engine_;
  DecodeEvents events_;
  DecodeScheduler scheduler_;
};

}  // namespace winnow
