#pragma once

#include <cstdint>
#include <mutex>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/deadline.h"
#include "prefill_worker/backlog.h"
#include "prefill_worker/prefill_job.h"
#include "prefill_worker/priority_slots.h"

namespace winnow {

// Admission control of a prefill worker: decides which jobs the worker accepts and which of the
// accepted jobs hold a slot, and knows how much work they are. Thread-safe.
class PrefillAdmission {
 public:
  struct Options {
    int max_jobs = 256;  // waiting and running; one more is refused
    // Slots (PrioritySlots): jobs that hold a reservation or device memory at the same time. Short
    // jobs have as many slots of their own.
    int max_active = 16;
    // A job is refused if the backlog makes it wait longer than this, or miss its deadline.
    absl::Duration max_queue_time = absl::Seconds(60);
    absl::Duration retry_after = absl::Seconds(1);  // the least hint of a refusal
  };
  // A job's entry in the books. The caller keeps it from Accept to Leave, and no two calls may use
  // the same entry at the same time.
  struct Entry {
    int priority = 0;
    bool is_short = false;  // takes a slot of the short jobs, so that it never waits for long ones
    double work = 0;        // still to do, in the backlog's unit
    bool has_slot = false;
  };

  // `clock` must outlive it. load() counts work in tokens of a model with `num_layers`.
  PrefillAdmission(const Clock& clock, int num_layers, Options options)
      : clock_(clock), num_layers_(num_layers), options_(options) {}

  // Returns the load with this job. RESOURCE_EXHAUSTED with a retry hint when the queue is full or
  // too slow, UNAVAILABLE once closed. The job gets a free slot at once unless others of its own or
  // a higher priority wait for one.
  absl::StatusOr<PrefillLoad> Accept(Entry& job, const Deadline& deadline);
  // A resend computes nothing, so only a closed worker refuses it (UNAVAILABLE).
  absl::Status AcceptResend(Entry& job);
  // Gives a waiting job a slot; false when none is free. The caller asks for the jobs in order.
  bool TryAcquireSlot(Entry& job);
  // The job has ended; frees its slot.
  void Leave(const Entry& job);

  // A step of the engine did this work, which the caller has taken off the jobs' entries.
  void OnStep(const Backlog::Work& done, absl::Duration took, absl::Duration elapsed);

  // Refuses every job from now on.
  void Close();

  PrefillLoad load() const;
  // The time that all jobs together still take.
  absl::Duration queued_time() const;

 private:
  absl::Status Check(const Entry& job, const Deadline& deadline) const;
  PrioritySlots& SlotsFor(const Entry& job) { return slots_[job.is_short]; }
  void Enter(const Entry& job);
  PrefillLoad LoadLocked() const;

  const Clock& clock_;
  const int num_layers_;
  const Options options_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  int64_t num_jobs_ = 0;
  PrioritySlots slots_[2];  // of the long jobs, of the short jobs
  Backlog backlog_;
};

}  // namespace winnow
