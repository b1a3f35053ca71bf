#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "prefill_worker/prefill_scheduler.h"
#include "router/worker_clients.h"
#include "tests/simulation/simulated_decode_worker.h"
#include "tests/simulation/simulated_engine.h"
#include "tests/simulation/simulated_network.h"

namespace winnow {

using DecodeWorkers = std::map<std::string, std::unique_ptr<SimulatedDecodeWorker>>;

// A prefill worker: the real scheduler on an engine that only takes its time, handing over to
// simulated decode workers. Its calls are what arrives by the network.
class SimulatedPrefillWorker {
 public:
  struct Options {
    std::string address;
    int64_t max_step_rows = 8192;
    PrefillScheduler::Options scheduler;
  };
  SimulatedPrefillWorker(SimulatedNetwork& network, DecodeWorkers& decode, const CostModel& cost,
                         const ModelShape& shape, Options options);

  // `reply` sends what comes; the flag stops the job, with a Wake of the scheduler.
  std::shared_ptr<StopFlag> Prefill(const v1::PrefillRequest& request, Deadline deadline,
                                    StreamCallbacks<v1::PrefillResponse> reply);

  PrefillScheduler& scheduler() { return scheduler_; }
  const SimulatedPrefillEngine& engine() const { return engine_; }
  v1::WorkerInfo Info() const;
  // Over all time.
  int64_t most_jobs() const { return most_jobs_; }
  int64_t accepted_jobs() const { return accepted_jobs_; }
  int64_t accepted_tokens() const { return accepted_tokens_; }

 private:
  class Handoffs;

  const Options options_;
  SimulatedPrefillEngine engine_;
  const std::unique_ptr<KvHandoffFactory> handoffs_;
  PrefillEvents events_;
  int64_t most_jobs_ = 0, accepted_jobs_ = 0, accepted_tokens_ = 0;
  PrefillScheduler scheduler_;
};

}  // namespace winnow
