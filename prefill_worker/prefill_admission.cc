#include "prefill_worker/prefill_admission.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

// The backlog may fill this share of the time to a deadline. The rest is for work that the backlog
// does not know: the handoff, and later prompts that get a share of the steps.
constexpr double kDeadlineShare = 0.7;

absl::Status ClosedStatus() { return absl::UnavailableError("prefill: the worker is draining"); }

}  // namespace

absl::StatusOr<PrefillLoad> PrefillAdmission::Accept(Entry& job, const Deadline& deadline) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return ClosedStatus();
  WINNOW_RETURN_IF_ERROR(Check(job, deadline));
  backlog_.Add(job.work, job.priority);
  const PrioritySlots& slots = SlotsFor(job);
  job.has_slot = !slots.HasWaiter(job.priority) && slots.IsFree(job.priority, options_.max_active);
  Enter(job);
  return LoadLocked();
}

absl::Status PrefillAdmission::AcceptResend(Entry& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return ClosedStatus();
  Enter(job);
  return absl::OkStatus();
}

void PrefillAdmission::Enter(const Entry& job) {
  ++num_jobs_;
  PrioritySlots& slots = SlotsFor(job);
  job.has_slot ? slots.AddHolder(job.priority) : slots.AddWaiter(job.priority);
}

absl::Status PrefillAdmission::Check(const Entry& job, const Deadline& deadline) const {
  const auto refuse = [&](const std::string& why, absl::Duration retry_after) {
    absl::Status full = absl::ResourceExhaustedError(absl::StrCat("prefill: ", why));
    SetRetryAfter(full, std::max(options_.retry_after, retry_after));
    return full;
  };
  if (num_jobs_ >= options_.max_jobs) {
    return refuse(
        absl::StrCat("the queue is full (", num_jobs_, " of ", options_.max_jobs, " jobs)"),
        absl::ZeroDuration());
  }
  const absl::Duration wait = backlog_.TimeFor(0, job.priority);
  if (wait > options_.max_queue_time) {
    return refuse(absl::StrCat("the queue is full: ", absl::FormatDuration(wait), " of work, ",
                               absl::FormatDuration(options_.max_queue_time), " allowed"),
                  wait - options_.max_queue_time);
  }
  const absl::Duration done = backlog_.TimeFor(job.work, job.priority);
  const absl::Duration left = deadline.Remaining(clock_);
  // A job that has the worker for itself is tried: the estimate may be wrong.
  if (num_jobs_ > 0 && left > absl::ZeroDuration() && done > left * kDeadlineShare) {
    return refuse(absl::StrCat("the queue is too long: the prompt would be done in ",
                               absl::FormatDuration(done), ", the deadline leaves ",
                               absl::FormatDuration(left)),
                  wait);
  }
  return absl::OkStatus();
}

bool PrefillAdmission::TryAcquireSlot(Entry& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  PrioritySlots& slots = SlotsFor(job);
  if (!slots.IsFree(job.priority, options_.max_active)) return false;
  slots.RemoveWaiter(job.priority);
  slots.AddHolder(job.priority);
  job.has_slot = true;
  return true;
}

void PrefillAdmission::Leave(const Entry& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  backlog_.Remove(job.work, job.priority);
  PrioritySlots& slots = SlotsFor(job);
  job.has_slot ? slots.RemoveHolder(job.priority) : slots.RemoveWaiter(job.priority);
  if (--num_jobs_ == 0) backlog_.Clear();
}

void PrefillAdmission::OnStep(const Backlog::Work& done, absl::Duration took,
                              absl::Duration elapsed) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [priority, work] : done) backlog_.Remove(work, priority);
  backlog_.OnStep(done, took, elapsed);
}

void PrefillAdmission::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

PrefillLoad PrefillAdmission::load() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return LoadLocked();
}

PrefillLoad PrefillAdmission::LoadLocked() const {
  const double work = backlog_.WorkAhead();
  return {num_jobs_, static_cast<int64_t>(work / num_layers_), backlog_.TimeOf(work)};
}

absl::Duration PrefillAdmission::queued_time() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return backlog_.TimeFor();
}

}  // namespace winnow
