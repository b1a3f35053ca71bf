#include "router/worker_registry.h"

#include <algorithm>

#include "common/log.h"

namespace winnow {

WorkerRegistry::WorkerRegistry(WorkerClients& clients, const Clock& clock, Options options)
    : clients_(clients), clock_(clock), options_(std::move(options)) {
  for (const std::string& address : options_.prefill_addresses) workers_.push_back({address, true});
  for (const std::string& address : options_.decode_addresses) workers_.push_back({address, false});
  poller_ = std::thread([this] { Poll(); });
}

WorkerRegistry::~WorkerRegistry() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  poller_.join();
}

void WorkerRegistry::Poll() {
  while (true) {
    for (size_t i = 0; i < workers_.size(); ++i) PollOne(i);
    std::unique_lock<std::mutex> lock(mutex_);
    const bool all_ready = std::all_of(workers_.begin(), workers_.end(), [](const Worker& w) { return w.ready; });
    const absl::Duration period = all_ready ? options_.poll_period : options_.first_poll_period;
    if (wake_.wait_for(lock, absl::ToChronoMilliseconds(period), [this] { return stopping_; })) return;
  }
}

void WorkerRegistry::PollOne(size_t index) {
  const std::string address = workers_[index].address;  // never changes
  const bool is_prefill = workers_[index].is_prefill;
  const Deadline deadline = Deadline::After(clock_, options_.poll_timeout);
  absl::StatusOr<v1::WorkerInfo> info =
      is_prefill ? clients_.GetPrefillInfo(address, deadline) : clients_.GetDecodeInfo(address, deadline);
  std::lock_guard<std::mutex> lock(mutex_);
  Worker& worker = workers_[index];
  if (info.ok() != worker.ready) {
    spdlog::info("{} worker {} is {}{}", is_prefill ? "prefill" : "decode", address,
                 info.ok() ? "ready" : "not reachable: ", info.ok() ? "" : std::string(info.status().message()));
  }
  worker.ready = info.ok();
  if (!info.ok()) return;
  info->set_address(address);
  worker.info = *std::move(info);
}

std::vector<WorkerView> WorkerRegistry::Views(bool prefill) const {
  std::vector<WorkerView> views;
  for (const Worker& worker : workers_) {
    if (worker.is_prefill != prefill) continue;
    WorkerView view{.address = worker.address, .ready = worker.ready, .outstanding = worker.outstanding};
    if (worker.info) {
      view.layout_digest = worker.info->layout_digest();
      view.incarnation = worker.info->incarnation();
    }
    views.push_back(std::move(view));
  }
  return views;
}

WorkerRegistry::Worker* WorkerRegistry::Find(const std::string& address, bool prefill) {
  for (Worker& worker : workers_) {
    if (worker.is_prefill == prefill && worker.address == address) return &worker;
  }
  return nullptr;
}

absl::StatusOr<Placement> WorkerRegistry::Acquire(int64_t tokens, bool needs_decode,
                                                  const std::vector<std::string>& avoid) {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::StatusOr<Placement> placement =
      ChooseWorkers(Views(true), Views(false), needs_decode, rotation_++, avoid);
  if (!placement.ok()) return placement;
  Find(placement->prefill_address, true)->outstanding += tokens;
  if (needs_decode) Find(placement->decode_address, false)->outstanding += tokens;
  return placement;
}

void WorkerRegistry::Release(const Placement& placement, int64_t tokens) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (Worker* worker = Find(placement.prefill_address, true)) worker->outstanding -= tokens;
  if (Worker* worker = Find(placement.decode_address, false)) worker->outstanding -= tokens;
}

void WorkerRegistry::ReportUnreachable(const std::string& address) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (Worker& worker : workers_) {
    if (worker.address == address) worker.ready = false;
  }
}

absl::StatusOr<v1::WorkerInfo> WorkerRegistry::Model() const {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Worker& worker : workers_) {
    if (worker.is_prefill && worker.info) return *worker.info;
  }
  return absl::UnavailableError("no prefill worker has answered yet");
}

std::vector<v1::WorkerInfo> WorkerRegistry::Workers() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<v1::WorkerInfo> infos;
  for (const Worker& worker : workers_) {
    if (worker.ready && worker.info) infos.push_back(*worker.info);
  }
  return infos;
}

bool WorkerRegistry::HasReadyPrefill() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(workers_.begin(), workers_.end(), [](const Worker& w) { return w.is_prefill && w.ready; });
}

bool WorkerRegistry::HasReadyDecode() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(workers_.begin(), workers_.end(), [](const Worker& w) { return !w.is_prefill && w.ready; });
}

}  // namespace winnow
