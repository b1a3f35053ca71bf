#include "router/worker_registry.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "common/log.h"

namespace winnow {
namespace {

struct Worker {
  std::string address;
  v1::WorkerRole role = v1::WORKER_ROLE_UNSPECIFIED;
  bool ready = false;
  std::optional<v1::WorkerInfo> info;  // the last answer
  int64_t outstanding = 0;
  bool polling = false;     // a poll is under way
  bool poll_again = false;  // …but news came meanwhile
  absl::Time next_poll;     // from the start: at once
  absl::Duration retry;     // until the next poll while there is no answer
};

const char* RoleName(v1::WorkerRole role) {
  return role == v1::WORKER_ROLE_PREFILL ? "prefill" : "decode";
}

}  // namespace

struct WorkerRegistry::State : std::enable_shared_from_this<WorkerRegistry::State> {
  State(WorkerClients& clients, const Clock& clock, Options options)
      : clients(clients), clock(clock), options(std::move(options)) {}

  // All with the lock held, but for OnInfo.
  std::vector<std::pair<size_t, Deadline>> TakeDue();
  absl::Time NextPoll() const;
  std::vector<WorkerView> Views(v1::WorkerRole role) const;
  void AddWork(const std::string& address, v1::WorkerRole role, int64_t tokens);
  void PollNow(const std::string& address, bool unreachable);
  void OnInfo(size_t index, absl::StatusOr<v1::WorkerInfo> info);

  WorkerClients& clients;
  const Clock& clock;
  const Options options;
  mutable std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  std::vector<Worker> workers;  // addresses and roles never change
  size_t rotation = 0;
};

WorkerRegistry::WorkerRegistry(WorkerClients& clients, const Clock& clock, Options options)
    : state_(std::make_shared<State>(clients, clock, std::move(options))) {
  const auto add = [&](const std::vector<std::string>& addresses, v1::WorkerRole role) {
    for (const std::string& address : addresses) {
      state_->workers.push_back(
          {.address = address, .role = role, .retry = state_->options.first_retry});
    }
  };
  add(state_->options.prefill_addresses, v1::WORKER_ROLE_PREFILL);
  add(state_->options.decode_addresses, v1::WORKER_ROLE_DECODE);
  poller_ = std::thread([state = state_] { PollLoop(state); });
}

WorkerRegistry::~WorkerRegistry() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  poller_.join();
}

void WorkerRegistry::PollLoop(const std::shared_ptr<State>& state) {
  while (true) {
    std::vector<std::pair<size_t, Deadline>> due;
    {
      std::unique_lock<std::mutex> lock(state->mutex);
      const absl::Duration idle = std::clamp(state->NextPoll() - state->clock.Now(),
                                             absl::ZeroDuration(), state->options.poll_period);
      state->wake.wait_for(lock, absl::ToChronoMicroseconds(idle), [&] {
        return state->stopping || state->NextPoll() <= state->clock.Now();
      });
      if (state->stopping) return;
      due = state->TakeDue();
    }
    for (const auto& [index, deadline] : due) {
      const Worker& worker = state->workers[index];
      state->clients.GetInfo(worker.address, worker.role, deadline,
                             [state, index = index](absl::StatusOr<v1::WorkerInfo> info) {
                               state->OnInfo(index, std::move(info));
                             });
    }
  }
}

std::vector<std::pair<size_t, Deadline>> WorkerRegistry::State::TakeDue() {
  std::vector<std::pair<size_t, Deadline>> due;
  const absl::Time now = clock.Now();
  for (size_t i = 0; i < workers.size(); ++i) {
    if (workers[i].polling || workers[i].next_poll > now) continue;
    workers[i].polling = true;
    workers[i].poll_again = false;
    due.emplace_back(i, Deadline::At(now + options.poll_timeout));
  }
  return due;
}

absl::Time WorkerRegistry::State::NextPoll() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Worker& worker : workers) {
    if (!worker.polling) next = std::min(next, worker.next_poll);
  }
  return next;
}

void WorkerRegistry::State::OnInfo(size_t index, absl::StatusOr<v1::WorkerInfo> info) {
  std::lock_guard<std::mutex> lock(mutex);
  Worker& worker = workers[index];
  worker.polling = false;
  // An answer that was perhaps under way before the worker failed does not make it ready again.
  const bool stale = std::exchange(worker.poll_again, false);
  const bool answered = info.ok();
  const bool ready = answered && !(stale && !worker.ready);
  if (ready != worker.ready) {
    spdlog::info(
        "{} worker {} is {}{}", RoleName(worker.role), worker.address,
        ready ? "ready" : "not reachable: ", answered ? "" : std::string(info.status().message()));
  }
  worker.ready = ready;
  if (answered) {
    worker.info = *std::move(info);
    worker.info->set_address(worker.address);
    worker.retry = options.first_retry;
  }
  worker.next_poll = clock.Now() + (answered ? options.poll_period : worker.retry);
  if (stale) worker.next_poll = clock.Now();
  if (!answered) worker.retry = std::min(worker.retry * 2, options.poll_period);
  wake.notify_all();
}

std::vector<WorkerView> WorkerRegistry::State::Views(v1::WorkerRole role) const {
  std::vector<WorkerView> views;
  for (const Worker& worker : workers) {
    if (worker.role != role) continue;
    WorkerView view{
        .address = worker.address, .ready = worker.ready, .outstanding = worker.outstanding};
    if (worker.info) {
      view.layout_digest = worker.info->layout_digest();
      view.incarnation = worker.info->incarnation();
    }
    views.push_back(std::move(view));
  }
  return views;
}

void WorkerRegistry::State::AddWork(const std::string& address, v1::WorkerRole role,
                                    int64_t tokens) {
  for (Worker& worker : workers) {
    if (worker.role == role && worker.address == address) worker.outstanding += tokens;
  }
}

void WorkerRegistry::State::PollNow(const std::string& address, bool unreachable) {
  for (Worker& worker : workers) {
    if (worker.address != address) continue;
    if (unreachable && std::exchange(worker.ready, false)) {
      spdlog::info("{} worker {} is not reachable: a call failed", RoleName(worker.role), address);
    }
    worker.next_poll = clock.Now();
    worker.poll_again = worker.polling;
  }
  wake.notify_all();
}

absl::StatusOr<Placement> WorkerRegistry::Acquire(const Work& work, PlacementQuery query) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  query.rotation = state_->rotation++;
  absl::StatusOr<Placement> placement = ChooseWorkers(state_->Views(v1::WORKER_ROLE_PREFILL),
                                                      state_->Views(v1::WORKER_ROLE_DECODE), query);
  if (!placement.ok()) return placement;
  state_->AddWork(placement->prefill_address, v1::WORKER_ROLE_PREFILL, work.prefill_tokens);
  state_->AddWork(placement->decode_address, v1::WORKER_ROLE_DECODE, work.decode_tokens);
  return placement;
}

void WorkerRegistry::ReleasePrefill(const Placement& placement, const Work& work) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->AddWork(placement.prefill_address, v1::WORKER_ROLE_PREFILL, -work.prefill_tokens);
}

void WorkerRegistry::ReleaseDecode(const Placement& placement, const Work& work) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->AddWork(placement.decode_address, v1::WORKER_ROLE_DECODE, -work.decode_tokens);
}

void WorkerRegistry::ReportUnreachable(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->PollNow(address, /*unreachable=*/true);
}

void WorkerRegistry::Recheck(const std::string& address) {
  std::lock_guard<std::mutex> lock(state_->mutex);
  state_->PollNow(address, /*unreachable=*/false);
}

bool WorkerRegistry::HasOtherPrefill(const std::vector<std::string>& addresses) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return std::any_of(state_->workers.begin(), state_->workers.end(), [&](const Worker& worker) {
    return worker.role == v1::WORKER_ROLE_PREFILL && worker.ready &&
           std::find(addresses.begin(), addresses.end(), worker.address) == addresses.end();
  });
}

absl::StatusOr<v1::WorkerInfo> WorkerRegistry::Model() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  const Worker* speaker = nullptr;
  for (const Worker& worker : state_->workers) {
    if (worker.role != v1::WORKER_ROLE_PREFILL || !worker.info) continue;
    if (speaker == nullptr || (worker.ready && !speaker->ready)) speaker = &worker;
  }
  if (speaker == nullptr) return absl::UnavailableError("no prefill worker has answered yet");
  v1::WorkerInfo model = *speaker->info;
  for (const Worker& worker : state_->workers) {
    if (!worker.ready || worker.info->layout_digest() != model.layout_digest()) continue;
    model.set_max_context(std::min(model.max_context(), worker.info->max_context()));
  }
  return model;
}

std::vector<v1::WorkerInfo> WorkerRegistry::Workers() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  std::vector<v1::WorkerInfo> infos;
  for (const Worker& worker : state_->workers) {
    if (worker.ready) infos.push_back(*worker.info);
  }
  return infos;
}

int WorkerRegistry::NumReady(v1::WorkerRole role) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return static_cast<int>(
      std::count_if(state_->workers.begin(), state_->workers.end(),
                    [&](const Worker& w) { return w.role == role && w.ready; }));
}

int WorkerRegistry::NumKnown(v1::WorkerRole role) const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return static_cast<int>(std::count_if(state_->workers.begin(), state_->workers.end(),
                                        [&](const Worker& w) { return w.role == role; }));
}

}  // namespace winnow
