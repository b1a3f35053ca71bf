#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "engine/prefill_engine.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/prefill_admission.h"
#include "prefill_worker/prefill_job.h"
#include "prefill_worker/retained_kv.h"

namespace winnow {

// Jobs by the sign of their priority.
struct PrefillQueue {
  int64_t low = 0, normal = 0, high = 0;
};

// Counters that the scheduler moves; prefill_metrics.h exports them. All calls come from the
// scheduler's thread.
class PrefillEvents {
 public:
  virtual ~PrefillEvents() = default;
  virtual void OnFinished(const PrefillJob& job, const PrefillSummary& summary,
                          double ttft_seconds) {}
  // `wasted_tokens` of its prompt were computed. Neither of the two for a resend: its job has ended
  // before.
  virtual void OnFailed(const PrefillJob& job, const absl::Status& status, int64_t wasted_tokens) {}
  // A step of the engine computed this many prompt tokens.
  virtual void OnComputed(int64_t tokens) {}
  // How many jobs wait for their reservation, for memory, or for others before them.
  virtual void OnQueued(const PrefillQueue& waiting) {}
  // A prompt's KV was handed over; `exposed` is the time after token 0 (or after a resend was asked
  // for) that it took.
  virtual void OnTransferred(const KvHandoff::Summary& summary, absl::Duration exposed) {}
  // A reservation or a transfer failed, not by its caller's wish.
  virtual void OnTransferFailed(const absl::Status& status) {}
  virtual void OnPinnedBytes(int64_t bytes) {}
};

// Runs prefill jobs on one engine: reserves at the decode worker for the jobs that come next, runs
// a job once its reservation is granted, packs chunks of several jobs into each engine step, gives
// token 0 at once, and commits. Plain core without gRPC; one thread of its own. Submit and Resend
// are thread-safe and do not block.
class PrefillScheduler {
 public:
  struct Options {
    PrefillAdmission::Options admission;
    RetainedKv::Options retained;
  };

  // All references must outlive it.
  PrefillScheduler(PrefillEngine& engine, KvHandoffFactory& handoffs, const Clock& clock,
                   PrefillEvents& events, Options options);
  // Fails what still waits or runs with UNAVAILABLE.
  ~PrefillScheduler();

  // RESOURCE_EXHAUSTED with a retry hint when the queue is full or too slow, UNAVAILABLE when
  // draining, INVALID_ARGUMENT for a job that contradicts itself; `callbacks` are not called then.
  // A job that gets a slot at once is reserved for at once, while a step runs.
  absl::Status Submit(PrefillJob job, PrefillCallbacks callbacks);

  // Ships the retained KV of the target's request to another decode worker: reserved, then
  // committed, or failed with NOT_FOUND when it is not retained. UNAVAILABLE when draining;
  // `callbacks` are not called then.
  absl::Status Resend(HandoffTarget target, std::shared_ptr<StopFlag> stop,
                      PrefillCallbacks callbacks);

  // Looks at stop flags now; call it after setting one.
  void Wake();
  // Refuses new jobs; running ones go on.
  void Drain() { admission_.Close(); }
  PrefillLoad load() const { return admission_.load(); }
  int64_t num_jobs() const { return load().jobs; }
  // What all jobs together will take from now on.
  absl::Duration queued_time() const { return admission_.queued_time(); }
  // Host memory of prompts' KV that is still referred to, by jobs, streams or for a resend.
  int64_t staging_bytes() const { return *staging_bytes_; }

 private:
  enum class State { kQueued, kReserving, kGranted, kRunning, kShipping };
  struct Task {
    PrefillJob job;
    PrefillCallbacks callbacks;
    PrefillAdmission::Entry admission;
    KvPlan plan;
    State state = State::kQueued;
    absl::Time submitted, reserve_begin, token_made;
    double reserve_wait = 0;
    std::shared_ptr<KvHandoff> handoff;
    std::shared_ptr<KvStaging> staging;
    int64_t sequence = 0;         // 0: not admitted
    int64_t computed_tokens = 0;  // of its prompt
    std::vector<int32_t> tokens;  // of the commit
    PrefillSummary summary;
    bool resent = false;  // nothing to compute

    bool needs_decode() const { return job.sampling.max_tokens > 1; }
  };
  // Events of other threads. Shared with callbacks, which may come after the scheduler is gone.
  struct Mailbox {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> events;
    bool stopping = false;
    bool poked = false;

    void Post(std::function<void()> event);
  };

  // INVALID_ARGUMENT for a job that contradicts itself or that the device can never hold.
  absl::StatusOr<Task> MakeTask(PrefillJob job, PrefillCallbacks callbacks) const;
  void StartResend(int64_t id, Task& resent);
  void Run();
  // The parts of one turn of the loop.
  void RunPosted();
  void DropStopped();
  void DropRetained();
  void StartReservations();
  void AdmitGranted();
  void TellQueue();
  bool StepOnce();
  // What the step did is no backlog any more.
  void OnStep(const std::vector<PrefillStepItem>& items,
              const std::map<int64_t, int64_t>& task_by_sequence, absl::Duration took);

  // The task has a slot: what it waits for next. Asks nobody yet.
  void Begin(Task& task);
  void Reserve(int64_t id, KvHandoff& handoff, const KvPlan& plan, int max_tokens);
  void OnGrant(int64_t id, absl::StatusOr<KvHandoff::Grant> grant);
  absl::Status Admit(Task& task);
  absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan);
  void OnOutput(int64_t id, PrefillOutput output);
  void Ship(int64_t id, Task& task);
  void OnCommit(int64_t id, absl::StatusOr<KvHandoff::Summary> summary);
  void FinishWithoutDecode(int64_t id);
  void Fail(int64_t id, const absl::Status& status);
  Task Take(int64_t id);
  Task* Find(int64_t id);

  PrefillEngine& engine_;
  KvHandoffFactory& handoffs_;
  const Clock& clock_;
  PrefillEvents& events_;

  // Shared with the staging memory's last owner, which may be a stream.
  const std::shared_ptr<std::atomic<int64_t>> staging_bytes_ =
      std::make_shared<std::atomic<int64_t>>(0);
  PrefillAdmission admission_;
  std::atomic<int64_t> next_id_{1};
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();

  // Only the scheduler's thread touches these.
  std::map<int64_t, Task> tasks_;                      // by arrival
  absl::Time last_step_end_ = absl::InfiniteFuture();  // future: there was nothing to do since
  absl::Time last_measured_ = absl::InfiniteFuture();  // the end of the last step of all
  RetainedKv retained_;
  int64_t retained_bytes_ = 0;  // as last told

  std::thread thread_;
};

}  // namespace winnow
