#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "engine/prefill_engine.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/mailbox.h"
#include "prefill_worker/prefill_admission.h"
#include "prefill_worker/prefill_events.h"
#include "prefill_worker/prefill_job.h"
#include "prefill_worker/prefill_task.h"
#include "prefill_worker/retained_kv.h"

namespace winnow {

// Runs prefill jobs on one engine: reserves at the decode workers for the jobs that run next, runs
// a job once its reservation is granted, packs chunks of several jobs into each engine step, gives
// token 0 at once, and commits. Owns one thread; free of gRPC. The public methods are thread-safe
// and do not block.
class PrefillScheduler {
 public:
  struct Options {
    PrefillAdmission::Options admission;
    RetainedKv::Options retained;
  };

  // All references must outlive the scheduler.
  PrefillScheduler(PrefillEngine& engine, KvHandoffFactory& handoffs, const Clock& clock,
                   PrefillEvents& events, Options options);
  // Fails the jobs that still wait or run with UNAVAILABLE.
  ~PrefillScheduler();

  // RESOURCE_EXHAUSTED with a retry hint when the queue is full or too slow, UNAVAILABLE when
  // draining, INVALID_ARGUMENT for a job that contradicts itself; `callbacks` are not called then.
  // Reserves at once for a job that gets a slot at once, even while a step runs.
  absl::Status Submit(PrefillJob job, PrefillCallbacks callbacks);

  // Ships the retained KV of the target's request to another decode worker: reserved, then
  // committed, or failed with NOT_FOUND when the KV is not retained. UNAVAILABLE when draining;
  // `callbacks` are not called then.
  absl::Status Resend(HandoffTarget target, std::shared_ptr<StopFlag> stop,
                      PrefillCallbacks callbacks);

  // Makes the scheduler look at the stop flags now; call it after setting one.
  void Wake() { mailbox_->Wake(); }
  // Refuses new jobs; accepted jobs go on.
  void Drain() { admission_.Close(); }
  PrefillLoad load() const { return admission_.load(); }
  int64_t num_jobs() const { return load().jobs; }
  // The time that all jobs together still take.
  absl::Duration queued_time() const { return admission_.queued_time(); }
  // Host memory that holds prompts' KV for jobs, for streams, or for a resend.
  int64_t staging_bytes() const { return *staging_bytes_; }

 private:
  using Task = PrefillTask;
  using State = PrefillTask::State;

  void StartResend(int64_t id, Task& resent);
  void Run();
  // The parts of one turn of Run's loop.
  void RunPosted();
  void DropStopped();
  void DropRetained();
  void StartReservations();
  void AdmitGranted();
  void ReportQueue();
  bool StepOnce();
  // Takes the step's work off the backlog.
  void OnStep(const std::vector<PrefillStepItem>& items,
              const std::map<int64_t, int64_t>& task_by_sequence, absl::Duration took);

  // The task has got a slot: sets its next state and creates its handoff, if it needs one, but does
  // not reserve yet.
  void LeaveQueue(Task& task);
  void Reserve(int64_t id, KvHandoff& handoff, const KvPlan& plan, int max_tokens);
  void OnGrant(int64_t id, absl::StatusOr<KvHandoff::Grant> grant);
  absl::Status Admit(Task& task);
  absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan);
  void OnOutput(int64_t id, PrefillOutput output);
  void Ship(int64_t id, Task& task);
  void OnCommit(int64_t id, absl::StatusOr<KvHandoff::Summary> summary);
  // Keeps the task's KV for a resend.
  void Retain(Task& task);
  void FinishWithoutDecode(int64_t id);
  void Fail(int64_t id, const absl::Status& status);
  Task Take(int64_t id);
  Task* Find(int64_t id);

  PrefillEngine& engine_;
  KvHandoffFactory& handoffs_;
  const Clock& clock_;
  PrefillEvents& events_;

  // Shared with the deleters of staging memory, whose last owner may be a stream.
  const std::shared_ptr<std::atomic<int64_t>> staging_bytes_ =
      std::make_shared<std::atomic<int64_t>>(0);
  PrefillAdmission admission_;
  std::atomic<int64_t> next_id_{1};
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();

  // Only the scheduler's thread touches these.
  std::map<int64_t, Task> tasks_;                      // by arrival
  absl::Time last_step_end_ = absl::InfiniteFuture();  // infinite: idle since
  absl::Time last_measured_ = absl::InfiniteFuture();  // end of the last step, idle or not since
  RetainedKv retained_;
  int64_t retained_bytes_ = 0;  // as reported last

  std::thread thread_;
};

}  // namespace winnow
