#pragma once

#include <cstdint>
#include <mutex>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/deadline.h"
#include "prefill_worker/backlog.h"
#include "prefill_worker/places.h"
#include "prefill_worker/prefill_job.h"

namespace winnow {

// The door of a prefill worker: which jobs it takes, which of them have a place, how much work they
// are. Thread-safe.
class Intake {
 public:
  struct Options {
    int max_jobs = 256;  // waiting and running; one more is refused
    // Jobs that hold a reservation or memory at a time (Places), and as many short ones beside
    // them.
    int max_active = 16;
    // A job that would wait longer than this, by the backlog, is refused; so is one that would not
    // be done before its deadline.
    absl::Duration max_queue_time = absl::Seconds(60);
    absl::Duration retry_after = absl::Seconds(1);  // hint of a refusal, at least
  };
  // What is known here of a job that was taken. The caller keeps it, and lets nobody else use it
  // during a call.
  struct Ticket {
    int priority = 0;
    bool is_short = false;  // these have places of their own: they do not wait for the long ones
    double work = 0;        // of the backlog, still to do
    bool has_place = false;
  };

  // `clock` must outlive it. Loads are told in tokens of a model with `num_layers`.
  Intake(const Clock& clock, int num_layers, Options options)
      : clock_(clock), num_layers_(num_layers), options_(options) {}

  // RESOURCE_EXHAUSTED with a retry hint when the queue is full or too slow, UNAVAILABLE once
  // closed. A job that nobody waits before has its place at once if one is free. Returns the load
  // with it.
  absl::StatusOr<PrefillLoad> Take(Ticket& job, const Deadline& deadline);
  // One that computes nothing and is never refused but when closed.
  absl::Status TakeResend(Ticket& job);
  // Gives a waiting job a place, or false when none is free. The caller asks in order.
  bool TryPlace(Ticket& job);
  // The job has ended.
  void Leave(const Ticket& job);

  // A step of the engine did this work, which its jobs' tickets have no more.
  void OnStep(const Backlog::Work& done, absl::Duration took, absl::Duration elapsed);

  // Takes nobody any more.
  void Close();

  PrefillLoad load() const;
  // What all jobs together will take from now on.
  absl::Duration queued_time() const;

 private:
  absl::Status Check(const Ticket& job, const Deadline& deadline) const;
  Places& PlacesFor(const Ticket& job) { return places_[job.is_short]; }
  void Enter(const Ticket& job);
  PrefillLoad LoadLocked() const;

  const Clock& clock_;
  const int num_layers_;
  const Options options_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  int64_t num_jobs_ = 0;
  Places places_[2];  // of the long and of the short ones
  Backlog backlog_;
};

}  // namespace winnow
