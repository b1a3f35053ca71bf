#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "router/circuit_breaker.h"
#include "router/placement.h"
#include "router/worker_clients.h"
#include "router/worker_source.h"

namespace winnow {

// The workers that a router knows: polls them, remembers their answers, and counts the work that
// each has. A prefill worker reports the work of all routers in its replies; for a decode worker
// this router counts its own share and takes the others' from the last poll. A worker that cannot
// be reached is not chosen until a poll succeeds. A worker that answers polls but fails requests is
// tried by one request at a time, as long as there are others (CircuitBreaker). A restarted worker
// starts with a clean record. Thread-safe.
class WorkerRegistry {
 public:
  struct Options {
    // Between two polls of a worker that answers; other routers' work is as old as that.
    absl::Duration poll_period = absl::Milliseconds(100);
    // A worker that does not answer is polled again after `first_retry`, then after twice as long
    // every time, up to `longest_retry`.
    absl::Duration first_retry = absl::Milliseconds(50);
    absl::Duration longest_retry = absl::Seconds(1);
    absl::Duration poll_timeout = absl::Seconds(2);
    // How often the sources are asked who the workers are.
    absl::Duration source_period = absl::Milliseconds(50);
    CircuitBreaker::Options breaker;
    // Where the breaking of ties starts. Routers with different values do not all choose the same
    // worker.
    size_t first_rotation = 0;
  };
  // The workers are those that any of `sources` names, in their order. A new worker is polled at
  // once; a worker that no source names any more gets no new work and is forgotten when its last
  // request has ended. Everything given must outlive the registry, but not the polls that are under
  // way when it ends.
  WorkerRegistry(WorkerClients& clients, const Clock& clock,
                 std::vector<const WorkerSource*> sources, Options options);
  ~WorkerRegistry();

  // Estimated work of one request, in tokens.
  struct Work {
    int64_t prefill_tokens = 0;
    int64_t decode_tokens = 0;
  };
  // Chooses workers for one attempt and counts its work on both until it is released. Fills in
  // `query.rotation`. UNAVAILABLE: see ChooseWorkers.
  absl::StatusOr<Placement> Acquire(const Work& work, PlacementQuery query);
  // The prefill worker accepted the attempt and, unless it is of an older version, reported its
  // load with it.
  void OnAccepted(const Placement& placement, const Work& work, const v1::Accepted& accepted);
  // A prefill worker reported its load.
  void OnLoad(const std::string& address, const v1::WorkerLoad& load);
  void ReleasePrefill(const Placement& placement, const Work& work, bool was_accepted);
  void ReleaseDecode(const Placement& placement, const Work& work);

  // How a request ended at this worker, where that says something about the worker.
  void ReportSuccess(const std::string& address);
  void ReportFailure(const std::string& address);
  // A call failed as if the worker were gone: it is not chosen until a poll succeeds. Polls it now.
  void ReportUnreachable(const std::string& address);
  // The worker may be gone or restarted: polls it now.
  void Recheck(const std::string& address);

  // Whether a worker of this role is ready whose address is none of these.
  bool HasOther(v1::WorkerRole role, const std::vector<std::string>& addresses) const;

  // The model as the first ready prefill worker describes it, or else one that was ready, with the
  // smallest context of all ready workers. UNAVAILABLE until a prefill worker has answered.
  absl::StatusOr<v1::WorkerInfo> Model() const;
  // The last answers of the ready workers.
  std::vector<v1::WorkerInfo> Workers() const;

  // Workers of one role by state; each is counted once.
  struct Counts {
    int ready = 0;
    int failing = 0;  // they answer polls, but their requests fail
    int unreachable = 0;
    int draining = 0;
  };
  Counts Count(v1::WorkerRole role) const;
  // Workers that may be chosen: ready or failing.
  int NumReady(v1::WorkerRole role) const;

 private:
  struct State;
  static void PollLoop(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;  // shared with polls under way
  std::thread poller_;
};

}  // namespace winnow
