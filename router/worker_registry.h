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

// The workers that a router knows: polls them, remembers what they say, and counts the work that
// each has. A prefill worker says in its replies what all routers gave it; of a decode worker this
// router's own share is counted, and the others' from its last poll. A worker that cannot be
// reached is not chosen until a poll succeeds again; one that answers polls but fails requests is,
// while there are others, tried by one request at a time (CircuitBreaker). A restarted worker
// begins anew. Thread-safe.
class WorkerRegistry {
 public:
  struct Options {
    // Of a worker that answers: what other routers gave it is known as often.
    absl::Duration poll_period = absl::Milliseconds(100);
    // A worker that does not answer is asked again after this, then ever later, up to the longest.
    absl::Duration first_retry = absl::Milliseconds(50);
    absl::Duration longest_retry = absl::Seconds(1);
    absl::Duration poll_timeout = absl::Seconds(2);
    // How often the sources are asked who the workers are.
    absl::Duration source_period = absl::Milliseconds(50);
    CircuitBreaker::Options breaker;
    // Where ties begin to be broken. Routers that start at different places do not all choose the
    // same worker.
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
  // Places one attempt; counts its work on both workers until it is released. `query.rotation` is
  // filled in.
  absl::StatusOr<Placement> Acquire(const Work& work, PlacementQuery query);
  // The prefill worker took the attempt, and says what it has with it, unless it is an older one.
  void OnAccepted(const Placement& placement, const Work& work, const v1::Accepted& accepted);
  // What a prefill worker says of all that it has.
  void OnLoad(const std::string& address, const v1::WorkerLoad& load);
  void ReleasePrefill(const Placement& placement, const Work& work, bool was_accepted);
  void ReleaseDecode(const Placement& placement, const Work& work);

  // How a request ended at this worker, as far as it tells of the worker.
  void ReportSuccess(const std::string& address);
  void ReportFailure(const std::string& address);
  // A call to this worker failed as if it were gone: not chosen until a poll succeeds. Polls it
  // now.
  void ReportUnreachable(const std::string& address);
  // It may be gone or have been restarted: polls it now.
  void Recheck(const std::string& address);

  // Whether a worker of this role is ready that is none of these.
  bool HasOther(v1::WorkerRole role, const std::vector<std::string>& addresses) const;

  // What the workers say of the model: the word of the first ready prefill worker, or of one that
  // was, with the smallest context of the ready workers. UNAVAILABLE until one has answered.
  absl::StatusOr<v1::WorkerInfo> Model() const;
  // What the ready ones say.
  std::vector<v1::WorkerInfo> Workers() const;

  // Workers of one role by what becomes of them; each is counted once.
  struct Counts {
    int ready = 0;
    int failing = 0;  // they answer, but their requests fail
    int unreachable = 0;
    int draining = 0;
  };
  Counts Count(v1::WorkerRole role) const;
  // Ready or failing: they are chosen, if need be.
  int NumReady(v1::WorkerRole role) const;

 private:
  struct State;
  static void PollLoop(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;  // shared with polls under way
  std::thread poller_;
};

}  // namespace winnow
