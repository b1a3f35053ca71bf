#include "router/worker_registry.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "common/log.h"
#include "router/known_worker.h"
#include "wire/worker_info.h"

namespace winnow {

struct WorkerRegistry::State {
  State(WorkerClients& clients, const Clock& clock, std::vector<const WorkerSource*> sources,
        Options options)
      : clients(clients),
        clock(clock),
        sources(std::move(sources)),
        options(std::move(options)),
        rotation(this->options.first_rotation) {}

  using WorkerPtr = std::shared_ptr<KnownWorker>;  // shared with polls under way

  // The poller's steps; they take the lock themselves.
  bool WaitForWork();
  void AskSources();
  std::vector<std::pair<WorkerPtr, Deadline>> TakeDue();
  std::vector<std::string> TakeDrained();
  void OnInfo(const WorkerPtr& worker, absl::StatusOr<v1::WorkerInfo> info);

  // All with the lock held.
  void SetWorkers(const std::vector<WorkerAddress>& named);
  absl::Time NextWork() const;
  std::vector<WorkerView> Views(v1::WorkerRole role) const;
  WorkerPtr Find(const std::string& address, v1::WorkerRole role) const;
  void AddWork(const std::string& address, v1::WorkerRole role, int64_t tokens);
  void PollNow(const std::string& address, bool unreachable);
  void OnOutcome(const std::string& address, bool ok);

  WorkerClients& clients;
  const Clock& clock;
  const std::vector<const WorkerSource*> sources;  // asked by the poller alone
  const Options options;
  mutable std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  std::vector<WorkerPtr> workers;  // in the order in which they became known
  bool any_drained = false;        // one of them may be ready to be forgotten
  absl::Time next_question;        // to the sources; from the start: at once
  size_t rotation;
};

WorkerRegistry::WorkerRegistry(WorkerClients& clients, const Clock& clock,
                               std::vector<const WorkerSource*> sources, Options options)
    : state_(std::make_shared<State>(clients, clock, std::move(sources), std::move(options))),
      poller_([state = state_] { PollLoop(state); }) {}

WorkerRegistry::~WorkerRegistry() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  poller_.join();
}

void WorkerRegistry::PollLoop(const std::shared_ptr<State>& state) {
  while (state->WaitForWork()) {
    state->AskSources();
    for (const auto& [worker, deadline] : state->TakeDue()) {
      state->clients.GetInfo(worker->address, worker->role, deadline,
                             [state, worker = worker](absl::StatusOr<v1::WorkerInfo> info) {
                               state->OnInfo(worker, std::move(info));
                             });
    }
    for (const std::string& address : state->TakeDrained()) state->clients.Forget(address);
  }
}

// Returns false when the registry ends.
bool WorkerRegistry::State::WaitForWork() {
  std::unique_lock<std::mutex> lock(mutex);
  const absl::Duration idle =
      std::clamp(NextWork() - clock.Now(), absl::ZeroDuration(), options.source_period);
  clock.WaitFor(wake, lock, idle,
                [&] { return stopping || any_drained || NextWork() <= clock.Now(); });
  return !stopping;
}

// Sources have locks of their own, so the registry's is not held while they are asked.
void WorkerRegistry::State::AskSources() {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (next_question > clock.Now()) return;
    next_question = clock.Now() + options.source_period;
  }
  std::vector<WorkerAddress> named;
  for (const WorkerSource* source : sources) {
    const std::vector<WorkerAddress> more = source->Workers();
    named.insert(named.end(), more.begin(), more.end());
  }
  std::lock_guard<std::mutex> lock(mutex);
  SetWorkers(named);
}

void WorkerRegistry::State::SetWorkers(const std::vector<WorkerAddress>& named) {
  for (const WorkerPtr& known : workers) {
    const bool is_named = std::find(named.begin(), named.end(),
                                    WorkerAddress{known->address, known->role}) != named.end();
    if (is_named == !known->draining) continue;
    known->draining = !is_named;
    any_drained |= known->draining;
    spdlog::info("{} worker {} {}", RoleName(known->role), known->address,
                 is_named ? "is back" : "leaves: it gets no new work");
  }
  for (const WorkerAddress& each : named) {
    if (Find(each.address, each.role) != nullptr) continue;
    workers.push_back(
        std::make_shared<KnownWorker>(KnownWorker{.address = each.address,
                                                  .role = each.role,
                                                  .breaker = CircuitBreaker(options.breaker),
                                                  .retry = options.first_retry}));
  }
}

std::vector<std::pair<WorkerRegistry::State::WorkerPtr, Deadline>>
WorkerRegistry::State::TakeDue() {
  std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::pair<WorkerPtr, Deadline>> due;
  const absl::Time now = clock.Now();
  for (const WorkerPtr& worker : workers) {
    if (worker->polling || worker->next_poll > now) continue;
    worker->polling = true;
    worker->poll_again = false;
    due.emplace_back(worker, Deadline::At(now + options.poll_timeout));
  }
  return due;
}

// Forgets workers that drain and have nothing left; returns the addresses where no other worker is.
std::vector<std::string> WorkerRegistry::State::TakeDrained() {
  std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::string> addresses;
  any_drained = false;
  const auto first_gone = std::stable_partition(
      workers.begin(), workers.end(),
      [](const WorkerPtr& worker) { return !worker->draining || worker->outstanding > 0; });
  for (auto gone = first_gone; gone != workers.end(); ++gone) {
    spdlog::info("{} worker {} is forgotten", RoleName((*gone)->role), (*gone)->address);
    addresses.push_back((*gone)->address);
  }
  workers.erase(first_gone, workers.end());
  const auto is_used = [&](const std::string& address) {
    return std::any_of(workers.begin(), workers.end(),
                       [&](const WorkerPtr& worker) { return worker->address == address; });
  };
  addresses.erase(std::remove_if(addresses.begin(), addresses.end(), is_used), addresses.end());
  return addresses;
}

absl::Time WorkerRegistry::State::NextWork() const {
  absl::Time next = next_question;
  for (const WorkerPtr& worker : workers) {
    if (!worker->polling) next = std::min(next, worker->next_poll);
  }
  return next;
}

void WorkerRegistry::State::OnInfo(const WorkerPtr& worker, absl::StatusOr<v1::WorkerInfo> info) {
  std::lock_guard<std::mutex> lock(mutex);
  if (stopping) return;  // the registry has ended, and the clock may have, too
  worker->polling = false;
  // An answer that may have been sent before the worker failed does not make it ready again.
  const bool stale = std::exchange(worker->poll_again, false);
  const bool answered = info.ok();
  const bool ready = answered && !(stale && !worker->ready);
  if (ready != worker->ready) {
    spdlog::info(
        "{} worker {} is {}{}", RoleName(worker->role), worker->address,
        ready ? "ready" : "not reachable: ", answered ? "" : std::string(info.status().message()));
  }
  worker->ready = ready;
  if (answered) {
    const bool restarted = worker->info && worker->info->incarnation() != info->incarnation();
    if (restarted) worker->breaker.Reset();
    worker->info = *std::move(info);
    worker->info->set_address(worker->address);
    if (worker->info->has_load()) worker->load.OnReport(worker->info->load(), clock.Now());
    worker->others = std::max<int64_t>(0, worker->info->load().tokens() - worker->outstanding);
    worker->retry = options.first_retry;
  }
  worker->next_poll = clock.Now() + (answered ? options.poll_period : worker->retry);
  if (stale) worker->next_poll = clock.Now();
  if (!answered) worker->retry = std::min(worker->retry * 2, options.longest_retry);
  wake.notify_all();
}

std::vector<WorkerView> WorkerRegistry::State::Views(v1::WorkerRole role) const {
  std::vector<WorkerView> views;
  const absl::Time now = clock.Now();
  for (const WorkerPtr& worker : workers) {
    if (worker->role != role || worker->draining) continue;
    WorkerView view{.address = worker->address,
                    .ready = worker->ready,
                    .failing = !worker->breaker.Allows(now),
                    .outstanding = worker->LoadAt(now)};
    if (worker->info) {
      view.layout_digest = worker->info->layout_digest();
      view.incarnation = worker->info->incarnation();
    }
    views.push_back(std::move(view));
  }
  return views;
}

WorkerRegistry::State::WorkerPtr WorkerRegistry::State::Find(const std::string& address,
                                                             v1::WorkerRole role) const {
  for (const WorkerPtr& worker : workers) {
    if (worker->role == role && worker->address == address) return worker;
  }
  return nullptr;
}

void WorkerRegistry::State::AddWork(const std::string& address, v1::WorkerRole role,
                                    int64_t tokens) {
  const WorkerPtr worker = Find(address, role);
  if (worker == nullptr) return;  // no decode worker was needed
  worker->outstanding += tokens;
  if (tokens > 0) worker->breaker.OnRequest(clock.Now());
  if (worker->draining && worker->outstanding == 0) {
    any_drained = true;
    wake.notify_all();
  }
}

void WorkerRegistry::State::PollNow(const std::string& address, bool unreachable) {
  for (const WorkerPtr& worker : workers) {
    if (worker->address != address) continue;
    if (unreachable && std::exchange(worker->ready, false)) {
      spdlog::info("{} worker {} is not reachable: a call failed", RoleName(worker->role), address);
    }
    worker->next_poll = clock.Now();
    worker->poll_again = worker->polling;
  }
  wake.notify_all();
}

void WorkerRegistry::State::OnOutcome(const std::string& address, bool ok) {
  const absl::Time now = clock.Now();
  for (const WorkerPtr& worker : workers) {
    if (worker->address != address) continue;
    const CircuitBreaker::State before = worker->breaker.state();
    ok ? worker->breaker.OnSuccess(now) : worker->breaker.OnFailure(now);
    const CircuitBreaker::State after = worker->breaker.state();
    if (after == before) continue;
    spdlog::info("{} worker {} {}", RoleName(worker->role), address,
                 after == CircuitBreaker::State::kClosed
                     ? "serves requests again"
                     : "fails requests: it gets none for a while, if there are others");
  }
}

absl::StatusOr<Placement> WorkerRegistry::Acquire(const Work& work, PlacementQuery query) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  query.rotation = state_->rotation++;
  absl::StatusOr<Placement> placement = ChooseWorkers(state_->Views(v1::WORKER_ROLE_PREFILL),
                                                      state_->Views(v1::WORKER_ROLE_DECODE), query);
  if (!placement.ok()) return placement;
  state_->AddWork(placement->prefill_address, v1::WORKER_ROLE_PREFILL, work.prefill_tokens);
  state_->Find(placement->prefill_address, v1::WORKER_ROLE_PREFILL)->unaccepted +=
      work.prefill_tokens;
  state_->AddWork(placement->decode_address, v1::WORKER_ROLE_DECODE, work.decode_tokens);
  return placement;
}

void WorkerRegistry::OnAccepted(const Placement& placement, const Work& work,
                                const v1::Accepted& accepted) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (const auto worker = state_->Find(placement.prefill_address, v1::WORKER_ROLE_PREFILL)) {
    worker->unaccepted -= work.prefill_tokens;
    if (accepted.has_load()) worker->load.OnReport(accepted.load(), state_->clock.Now());
  }
}

void WorkerRegistry::OnLoad(const std::string& address, const v1::WorkerLoad& load) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  if (const auto worker = state_->Find(address, v1::WORKER_ROLE_PREFILL)) {
    worker->load.OnReport(load, state_->clock.Now());
  }
}

void WorkerRegistry::ReleasePrefill(const Placement& placement, const Work& work,
                                    bool was_accepted) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  const auto worker = state_->Find(placement.prefill_address, v1::WORKER_ROLE_PREFILL);
  if (worker != nullptr && !was_accepted) worker->unaccepted -= work.prefill_tokens;
  state_->AddWork(placement.prefill_address, v1::WORKER_ROLE_PREFILL, -work.prefill_tokens);
}

void WorkerRegistry::ReleaseDecode(const Placement& placement, const Work& work) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->AddWork(placement.decode_address, v1::WORKER_ROLE_DECODE, -work.decode_tokens);
}

void WorkerRegistry::ReportSuccess(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->OnOutcome(address, /*ok=*/true);
}

void WorkerRegistry::ReportFailure(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->OnOutcome(address, /*ok=*/false);
}

void WorkerRegistry::ReportUnreachable(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->PollNow(address, /*unreachable=*/true);
}

void WorkerRegistry::Recheck(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->PollNow(address, /*unreachable=*/false);
}

bool WorkerRegistry::HasOther(v1::WorkerRole role,
                              const std::vector<std::string>& addresses) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return std::any_of(state_->workers.begin(), state_->workers.end(), [&](const auto& worker) {
    return worker->role == role && worker->may_be_chosen() &&
           std::find(addresses.begin(), addresses.end(), worker->address) == addresses.end();
  });
}

absl::StatusOr<v1::WorkerInfo> WorkerRegistry::Model() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  const KnownWorker* speaker = nullptr;
  for (const auto& worker : state_->workers) {
    if (worker->role != v1::WORKER_ROLE_PREFILL || !worker->info) continue;
    const bool better = speaker != nullptr && worker->may_be_chosen() && !speaker->may_be_chosen();
    if (speaker == nullptr || better) speaker = worker.get();
  }
  if (speaker == nullptr) return absl::UnavailableError("no prefill worker has answered yet");
  v1::WorkerInfo model = *speaker->info;
  for (const auto& worker : state_->workers) {
    if (!worker->may_be_chosen()) continue;
    if (worker->info->layout_digest() != model.layout_digest()) continue;
    model.set_max_context(std::min(model.max_context(), worker->info->max_context()));
  }
  return model;
}

std::vector<v1::WorkerInfo> WorkerRegistry::Workers() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  std::vector<v1::WorkerInfo> infos;
  for (const auto& worker : state_->workers) {
    if (worker->may_be_chosen()) infos.push_back(*worker->info);
  }
  return infos;
}

WorkerRegistry::Counts WorkerRegistry::Count(v1::WorkerRole role) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  Counts counts;
  for (const auto& worker : state_->workers) {
    if (worker->role != role) continue;
    if (worker->draining) {
      ++counts.draining;
    } else if (!worker->ready) {
      ++counts.unreachable;
    } else if (worker->breaker.state() == CircuitBreaker::State::kClosed) {
      ++counts.ready;
    } else {
      ++counts.failing;
    }
  }
  return counts;
}

int WorkerRegistry::NumReady(v1::WorkerRole role) const {
  const Counts counts = Count(role);
  return counts.ready + counts.failing;
}

}  // namespace winnow
