#include "prefill_worker/prefill_scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fault.h"
#include "common/peer_failure.h"
#include "common/status_macros.h"
#include "engine/sampler.h"
#include "prefill_worker/batching.h"

namespace winnow {
namespace {

// Stop flags and deadlines are looked at this often when nothing else happens.
constexpr absl::Duration kIdleTick = absl::Milliseconds(50);

// Whether the KV of a failed handoff is good for another decode worker. Not when our own device
// failed or was late: the staging memory may hold anything then.
bool IsKvIntact(const absl::Status& failure) {
  return IsPeerFailed(failure) || !(absl::IsInternal(failure) || absl::IsDeadlineExceeded(failure));
}

}  // namespace

PrefillScheduler::PrefillScheduler(PrefillEngine& engine, KvHandoffFactory& handoffs,
                                   const Clock& clock, PrefillEvents& events, Options options)
    : engine_(engine),
      handoffs_(handoffs),
      clock_(clock),
      events_(events),
      admission_(clock, engine.shape().num_layers, options.admission),
      retained_(options.retained),
      thread_([this] { Run(); }) {}

PrefillScheduler::~PrefillScheduler() {
  admission_.Close();
  mailbox_->Stop();
  thread_.join();
}

absl::Status PrefillScheduler::Submit(PrefillJob job, PrefillCallbacks callbacks) {
  WINNOW_ASSIGN_OR_RETURN(
      Task made, MakePrefillTask(engine_, std::move(job), std::move(callbacks), clock_.Now()));
  const auto task = std::make_shared<Task>(std::move(made));
  WINNOW_ASSIGN_OR_RETURN(const PrefillLoad load,
                          admission_.Accept(task->admission, task->job.target.deadline));
  task->callbacks.accepted(load);
  // A job that was stopped meanwhile is dropped in the scheduler's next turn.
  if (task->admission.has_slot && StoppedStatus(task->job, clock_).ok()) LeaveQueue(*task);
  // Copies, since the task belongs to the scheduler's thread once it is posted.
  const std::shared_ptr<KvHandoff> handoff = task->handoff;
  const KvPlan plan = task->plan.kv;
  const int max_tokens = task->job.sampling.max_tokens;
  const int64_t id = next_id_++;
  mailbox_->Post([this, id, task] { tasks_.emplace(id, std::move(*task)); });
  // The grant comes through the mailbox, behind the task.
  if (handoff != nullptr) Reserve(id, *handoff, plan, max_tokens);
  return absl::OkStatus();
}

absl::Status PrefillScheduler::Resend(HandoffTarget target, std::shared_ptr<StopFlag> stop,
                                      PrefillCallbacks callbacks) {
  const auto task = std::make_shared<Task>();
  task->admission.is_short = true;
  task->resent = true;
  task->job.target = std::move(target);
  task->job.stop = std::move(stop);
  task->callbacks = std::move(callbacks);
  task->submitted = clock_.Now();
  WINNOW_RETURN_IF_ERROR(admission_.AcceptResend(task->admission));
  mailbox_->Post([this, id = next_id_++, task] { StartResend(id, *task); });
  return absl::OkStatus();
}

void PrefillScheduler::StartResend(int64_t id, Task& resent) {
  Task& task = tasks_.emplace(id, std::move(resent)).first->second;
  const std::string& request_id = task.job.target.request_id;
  const std::optional<RetainedKv::Entry> entry = retained_.Find(request_id, clock_.Now());
  if (!entry) {
    Fail(id,
         absl::NotFoundError(absl::StrCat("resend: no KV is retained for request ", request_id)));
    return;
  }
  task.plan.kv = entry->staging->plan;
  task.staging = entry->staging;
  task.tokens = entry->tokens;
  task.job.sampling = entry->sampling;
  task.summary = entry->summary;
}

void PrefillScheduler::Run() {
  while (true) {
    RunPosted();
    DropStopped();
    DropRetained();
    StartReservations();
    AdmitGranted();
    ReportQueue();
    const bool stepped = StepOnce();
    if (!mailbox_->Wait(clock_, stepped ? absl::ZeroDuration() : kIdleTick)) break;
  }
  RunPosted();
  while (!tasks_.empty()) {
    Fail(tasks_.begin()->first, absl::UnavailableError("prefill: the worker is shutting down"));
  }
}

void PrefillScheduler::RunPosted() {
  for (const Mailbox::Event& event : mailbox_->TakeAll()) event();
}

PrefillScheduler::Task* PrefillScheduler::Find(int64_t id) {
  auto it = tasks_.find(id);
  return it == tasks_.end() ? nullptr : &it->second;
}

void PrefillScheduler::DropStopped() {
  std::vector<std::pair<int64_t, absl::Status>> dropped;
  for (const auto& [id, task] : tasks_) {
    absl::Status status = StoppedStatus(task.job, clock_);
    if (!status.ok()) dropped.emplace_back(id, std::move(status));
  }
  for (const auto& [id, status] : dropped) Fail(id, status);
}

void PrefillScheduler::DropRetained() {
  retained_.Trim(clock_.Now());
  if (retained_.bytes() == retained_bytes_) return;
  retained_bytes_ = retained_.bytes();
  events_.OnPinnedBytes(retained_bytes_);
}

void PrefillScheduler::StartReservations() {
  for (const bool is_short : {true, false}) {
    while (true) {
      Task* next = nullptr;
      int64_t next_id = 0;
      for (auto& [id, task] : tasks_) {  // highest priority, then first come
        if (task.state != State::kQueued || task.admission.is_short != is_short) continue;
        if (next == nullptr || task.job.priority > next->job.priority) next = &task, next_id = id;
      }
      if (next == nullptr || !admission_.TryAcquireSlot(next->admission)) break;
      LeaveQueue(*next);
      if (next->handoff == nullptr) continue;
      Reserve(next_id, *next->handoff, next->plan.kv, next->job.sampling.max_tokens);
    }
  }
}

void PrefillScheduler::LeaveQueue(Task& task) {
  task.state = task.needs_decode() ? State::kReserving : State::kGranted;
  if (!task.needs_decode()) return;
  task.reserve_begin = clock_.Now();
  task.handoff = handoffs_.Create(task.job.target);
}

void PrefillScheduler::Reserve(int64_t id, KvHandoff& handoff, const KvPlan& plan, int max_tokens) {
  handoff.Reserve(plan, max_tokens,
                  [this, id, mailbox = mailbox_](absl::StatusOr<KvHandoff::Grant> grant) {
                    mailbox->Post([this, id, grant = std::move(grant)] { OnGrant(id, grant); });
                  });
}

void PrefillScheduler::OnGrant(int64_t id, absl::StatusOr<KvHandoff::Grant> grant) {
  Task* task = Find(id);
  if (task == nullptr) return;  // stopped meanwhile; its handoff aborts
  if (!grant.ok()) {
    events_.OnTransferFailed(grant.status());
    Fail(id, grant.status());
    return;
  }
  task->reserve_wait = absl::ToDoubleSeconds(clock_.Now() - task->reserve_begin);
  task->state = State::kGranted;
  task->callbacks.reserved(grant->decode_address, grant->reservation_id);
}

void PrefillScheduler::AdmitGranted() {
  std::vector<std::pair<int64_t, Task*>> granted;  // highest priority, then first come
  for (auto& [id, task] : tasks_) {
    if (task.state == State::kGranted) granted.emplace_back(id, &task);
  }
  std::stable_sort(granted.begin(), granted.end(), [](const auto& a, const auto& b) {
    return a.second->job.priority > b.second->job.priority;
  });
  std::vector<std::pair<int64_t, absl::Status>> failed;
  bool is_full = false;  // for long prompts: they keep their order, so that none starves
  for (const auto& [id, granted_task] : granted) {
    Task& task = *granted_task;
    if (is_full && !task.admission.is_short) continue;
    if (task.resent) {
      Ship(id, task);
    } else if (const PrefillMemory memory = engine_.MemoryFor(task.plan, task.job.selection);
               memory.needed > memory.free) {
      is_full = true;  // until another prompt has left
    } else if (absl::Status status = Admit(task); !status.ok()) {
      failed.emplace_back(id, std::move(status));
    }
  }
  for (const auto& [id, status] : failed) Fail(id, status);
}

absl::Status PrefillScheduler::Admit(Task& task) {
  KvSink* sink = nullptr;
  if (task.handoff != nullptr) {
    WINNOW_ASSIGN_OR_RETURN(task.staging, AllocateStaging(task.plan.kv));
    sink = task.handoff->Open(task.staging);
  }
  WINNOW_ASSIGN_OR_RETURN(
      task.sequence,
      engine_.Admit({task.job.prompt_ids, task.job.selection, task.plan}, task.staging, sink));
  task.state = State::kRunning;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<KvStaging>> PrefillScheduler::AllocateStaging(const KvPlan& plan) {
  WINNOW_ASSIGN_OR_RETURN(std::shared_ptr<KvStaging> staging, engine_.AllocateStaging(plan));
  KvStaging* const memory = staging.get();
  *staging_bytes_ += memory->bytes();
  return std::shared_ptr<KvStaging>(
      memory, [staging = std::move(staging), sum = staging_bytes_](KvStaging* gone) mutable {
        const int64_t bytes = gone->bytes();
        staging.reset();
        *sum -= bytes;
      });
}

void PrefillScheduler::ReportQueue() {
  PrefillQueue waiting;
  for (const auto& [id, task] : tasks_) {
    if (task.resent || task.state == State::kRunning || task.state == State::kShipping) continue;
    const int priority = task.job.priority;
    ++(priority < 0 ? waiting.low : priority > 0 ? waiting.high : waiting.normal);
  }
  events_.OnQueued(waiting);
}

bool PrefillScheduler::StepOnce() {
  std::vector<BatchCandidate> candidates;
  std::map<int64_t, int64_t> task_by_sequence;
  for (const auto& [id, task] : tasks_) {
    if (task.state != State::kRunning) continue;
    const absl::StatusOr<PrefillProgress> progress = engine_.Progress(task.sequence);
    if (!progress.ok()) continue;
    candidates.push_back({task.sequence, *progress, task.job.priority, task.submitted});
    task_by_sequence[task.sequence] = id;
  }
  const std::vector<PrefillStepItem> items = MakeBatch(candidates, engine_.max_step_rows());
  if (items.empty()) {
    last_step_end_ = absl::InfiniteFuture();
    return false;
  }
  const absl::Time begin = std::min(clock_.Now(), last_step_end_);
  const absl::Status fault = FailAt("prefill.step");
  absl::StatusOr<std::vector<PrefillOutput>> outputs =
      fault.ok() ? engine_.Step(items) : absl::StatusOr<std::vector<PrefillOutput>>(fault);
  last_step_end_ = clock_.Now();
  if (!outputs.ok()) {
    last_measured_ = last_step_end_;  // its time says nothing about the rate
    for (const PrefillStepItem& item : items)
      Fail(task_by_sequence[item.sequence], outputs.status());
    return true;
  }
  OnStep(items, task_by_sequence, last_step_end_ - begin);
  for (PrefillOutput& output : *outputs) {
    const int64_t id = task_by_sequence[output.sequence];
    OnOutput(id, std::move(output));
  }
  return true;
}

void PrefillScheduler::OnStep(const std::vector<PrefillStepItem>& items,
                              const std::map<int64_t, int64_t>& task_by_sequence,
                              absl::Duration took) {
  Backlog::Work done;
  int64_t computed = 0;
  for (const PrefillStepItem& item : items) {
    Task& task = *Find(task_by_sequence.at(item.sequence));
    if (item.pass == 0) {
      task.computed_tokens += item.row_count;
      computed += item.row_count;
    }
    const double work = Backlog::WorkOf(task.plan.passes[item.pass], item.row_count);
    task.admission.work -= work;
    done[task.job.priority] += work;
  }
  events_.OnComputed(computed);
  const absl::Duration elapsed =
      std::max(took, last_step_end_ - std::exchange(last_measured_, last_step_end_));
  admission_.OnStep(done, took, elapsed);
}

void PrefillScheduler::OnOutput(int64_t id, PrefillOutput output) {
  Task& task = *Find(id);
  engine_.Release(task.sequence);
  task.sequence = 0;
  task.token_made = clock_.Now();
  if (!output.status.ok()) {
    Fail(id, output.status);
    return;
  }

  FillSummary(engine_, output, task);
  task.tokens = task.job.forced_tokens;
  bool is_stop = false;
  if (task.tokens.empty()) {
    const absl::StatusOr<int32_t> token = SampleToken(output.logits, task.job.sampling, 0);
    if (!token.ok()) {
      Fail(id, token.status());
      return;
    }
    is_stop = task.job.sampling.IsStop(*token);
    task.tokens = {*token};
    task.callbacks.token(*token, is_stop);
  }
  if (is_stop || !task.needs_decode()) {
    FinishWithoutDecode(id);
  } else {
    Ship(id, task);
  }
}

void PrefillScheduler::FinishWithoutDecode(int64_t id) {
  Task task = Take(id);
  if (task.handoff != nullptr) task.handoff->Abort("the first token ended the generation");
  task.summary.ledger.kv_bytes_shipped = 0;
  task.summary.decode_follows = false;
  task.callbacks.committed(task.summary);
  events_.OnFinished(task.job, task.summary,
                     absl::ToDoubleSeconds(task.token_made - task.submitted));
}

void PrefillScheduler::Ship(int64_t id, Task& task) {
  task.state = State::kShipping;
  if (task.resent) {  // all parts are final already
    KvSink* sink = task.handoff->Open(task.staging);
    for (int rank = 0; rank < static_cast<int>(task.staging->ranks.size()); ++rank) {
      if (!task.staging->ranks[rank].heads.ships_kv) continue;
      for (int layer = 0; layer < task.plan.kv.num_layers; ++layer) {
        sink->OnKvReady({rank, layer, 0, task.plan.kv.entries(layer)}, nullptr);
      }
    }
  }
  task.handoff->Commit(
      task.tokens, task.job.sampling,
      [this, id, mailbox = mailbox_](absl::StatusOr<KvHandoff::Summary> summary) {
        mailbox->Post([this, id, summary = std::move(summary)] { OnCommit(id, summary); });
      });
}

void PrefillScheduler::OnCommit(int64_t id, absl::StatusOr<KvHandoff::Summary> summary) {
  Task* shipped = Find(id);
  if (shipped == nullptr) return;
  if (!summary.ok()) {
    if (StoppedStatus(shipped->job, clock_).ok()) {  // otherwise nobody asks for a resend
      events_.OnTransferFailed(summary.status());
      if (IsKvIntact(summary.status())) Retain(*shipped);
    }
    Fail(id, summary.status());
    return;
  }
  Task task = Take(id);
  if (task.resent) retained_.Erase(task.job.target.request_id);
  task.summary.kv_payload_bytes_sent = summary->kv_payload_bytes;
  task.summary.decode_follows = true;
  task.callbacks.committed(task.summary);
  events_.OnTransferred(*summary,
                        summary->committed - (task.resent ? task.submitted : task.token_made));
  if (task.resent) return;
  events_.OnFinished(task.job, task.summary,
                     absl::ToDoubleSeconds(task.token_made - task.submitted));
}

void PrefillScheduler::Retain(Task& task) {
  task.computed_tokens = 0;  // not wasted: a resend may follow
  retained_.Put(task.job.target.request_id,
                {task.staging, task.tokens, task.job.sampling, task.summary}, clock_.Now());
}

void PrefillScheduler::Fail(int64_t id, const absl::Status& status) {
  if (Find(id) == nullptr) return;
  const Task task = Take(id);
  if (task.handoff != nullptr) task.handoff->Abort(std::string(status.message()));
  task.callbacks.failed(status);
  if (!task.resent) events_.OnFailed(task.job, status, task.computed_tokens);
}

// Ends a task: all that the job held is free before its caller learns of the end.
PrefillScheduler::Task PrefillScheduler::Take(int64_t id) {
  Task task = std::move(tasks_.extract(id).mapped());
  if (task.sequence != 0) engine_.Release(task.sequence);
  task.sequence = 0;
  admission_.Leave(task.admission);
  return task;
}

}  // namespace winnow
