#include "prefill_worker/intake.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

// Of the time to a deadline that the backlog may fill. The rest is for what it does not know: the
// handoff, and later prompts that get a share of the steps.
constexpr double kDeadlineShare = 0.7;

absl::Status ClosedStatus() { return absl::UnavailableError("prefill: the worker is draining"); }

}  // namespace

absl::StatusOr<PrefillLoad> Intake::Take(Ticket& job, const Deadline& deadline) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return ClosedStatus();
  WINNOW_RETURN_IF_ERROR(Check(job, deadline));
  backlog_.Add(job.work, job.priority);
  const Places& places = PlacesFor(job);
  job.has_place =
      !places.HasWaiter(job.priority) && places.IsFree(job.priority, options_.max_active);
  Enter(job);
  return LoadLocked();
}

absl::Status Intake::TakeResend(Ticket& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return ClosedStatus();
  Enter(job);
  return absl::OkStatus();
}

void Intake::Enter(const Ticket& job) {
  ++num_jobs_;
  Places& places = PlacesFor(job);
  job.has_place ? places.AddHolder(job.priority) : places.AddWaiter(job.priority);
}

absl::Status Intake::Check(const Ticket& job, const Deadline& deadline) const {
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
  // One that has the worker for itself is tried: the estimate may be wrong.
  if (num_jobs_ > 0 && left > absl::ZeroDuration() && done > left * kDeadlineShare) {
    return refuse(absl::StrCat("the queue is too long: the prompt would be done in ",
                               absl::FormatDuration(done), ", the deadline leaves ",
                               absl::FormatDuration(left)),
                  wait);
  }
  return absl::OkStatus();
}

bool Intake::TryPlace(Ticket& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  Places& places = PlacesFor(job);
  if (!places.IsFree(job.priority, options_.max_active)) return false;
  places.RemoveWaiter(job.priority);
  places.AddHolder(job.priority);
  job.has_place = true;
  return true;
}

void Intake::Leave(const Ticket& job) {
  std::lock_guard<std::mutex> lock(mutex_);
  backlog_.Remove(job.work, job.priority);
  Places& places = PlacesFor(job);
  job.has_place ? places.RemoveHolder(job.priority) : places.RemoveWaiter(job.priority);
  if (--num_jobs_ == 0) backlog_.Clear();
}

void Intake::OnStep(const Backlog::Work& done, absl::Duration took, absl::Duration elapsed) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [priority, work] : done) backlog_.Remove(work, priority);
  backlog_.OnStep(done, took, elapsed);
}

void Intake::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

PrefillLoad Intake::load() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return LoadLocked();
}

PrefillLoad Intake::LoadLocked() const {
  const double work = backlog_.WorkAhead();
  return {num_jobs_, static_cast<int64_t>(work / num_layers_), backlog_.TimeOf(work)};
}

absl::Duration Intake::queued_time() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return backlog_.TimeFor();
}

}  // namespace winnow
