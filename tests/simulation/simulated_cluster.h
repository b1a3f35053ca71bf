#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "client/cli/load_plan.h"
#include "tests/simulation/simulated_router.h"

namespace winnow {

// How one request of a simulation went, as its client saw it.
struct SimulatedOutcome {
  PlannedRequest planned;
  int priority = 0;
  bool ended = false;
  absl::Status status;
  absl::Duration first_token, total;  // since it was due; the first is 0 without a token
};

// Routers, prefill and decode workers with the real routing and scheduling code, on one virtual
// clock: minutes of load on any number of GPUs in seconds, the same for the same seed.
class SimulatedCluster {
 public:
  struct Options {
    int routers = 1;
    int prefill_workers = 1;
    int decode_workers = 1;
    CostModel cost = H100With8B();
    int64_t max_step_rows = 8192;  // of a prefill step
    PrefillScheduler::Options scheduler;
    absl::Duration latency = absl::Microseconds(200);  // of a message
    uint64_t seed = 1;                                 // of the routers
  };
  // All workers are ready when it returns.
  explicit SimulatedCluster(Options options);
  ~SimulatedCluster();

  struct Load {
    std::vector<PlannedRequest> requests;
    int max_tokens = 2;
    absl::Duration timeout = absl::Minutes(10);
    int urgent_one_in = 0;  // of so many requests one has priority 1; 0: none
  };
  // Asks the routers in turn, each request when it is due, and waits until all have ended.
  std::vector<SimulatedOutcome> Run(const Load& load);
  // Lets time pass with nothing to do.
  void Idle(absl::Duration duration) { clock_.RunUntil(clock_.Now() + duration); }

  const Clock& clock() const { return clock_; }
  const CostModel& cost() const { return options_.cost; }
  PrefillPlan PlanOf(const PlannedRequest& request) const;
  std::vector<SimulatedPrefillWorker*> prefill() const;
  std::vector<SimulatedDecodeWorker*> decode() const;
  // What the workers hold for requests: jobs, bytes of staging memory, KV entries.
  int64_t jobs_held() const;
  int64_t staging_bytes_held() const;
  int64_t entries_held() const;

 private:
  v1::PrefillRequest MakeRequest(const SimulatedOutcome& outcome, int max_tokens);
  void Ask(SimulatedRouter& router, const Load& load, SimulatedOutcome& outcome);

  const Options options_;
  const ModelShape shape_ = ShapeOf8B();
  VirtualClock clock_;
  SimulatedNetwork network_;
  std::mt19937_64 random_;
  DecodeWorkers decode_;
  PrefillWorkers prefill_;
  std::vector<std::unique_ptr<SimulatedRouter>> routers_;
  size_t next_router_ = 0;
  int64_t next_request_ = 1;
  int64_t running_ = 0;
};

}  // namespace winnow
