#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "router/placement.h"
#include "router/worker_clients.h"

namespace winnow {

// The workers that a router knows: polls them, remembers what they say, counts the work given to each. A worker that cannot be
// reached is not chosen until it answers again. Thread-safe.
class WorkerRegistry {
 public:
  struct Options {
    std::vector<std::string> prefill_addresses;
    std::vector<std::string> decode_addresses;
    absl::Duration poll_period = absl::Seconds(1);
    absl::Duration first_poll_period = absl::Milliseconds(50);  // until all have answered once
    absl::Duration poll_timeout = absl::Seconds(2);
  };
  // Both must outlive it.
  WorkerRegistry(WorkerClients& clients, const Clock& clock, Options options);
  ~WorkerRegistry();

  // Places one attempt and counts `tokens` on both workers until Release.
  absl::StatusOr<Placement> Acquire(int64_t tokens, bool needs_decode, const std::vector<std::string>& avoid);
  void Release(const Placement& placement, int64_t tokens);
  // A call to this worker failed as if it were gone: not chosen until a poll succeeds.
  void ReportUnreachable(const std::string& address);

  // What the first ready prefill worker says of the model; UNAVAILABLE when there is none.
  absl::StatusOr<v1::WorkerInfo> Model() const;
  std::vector<v1::WorkerInfo> Workers() const;
  bool HasReadyPrefill() const;
  bool HasReadyDecode() const;

 private:
  struct Worker {
    std::string address;
    bool is_prefill = false;
    bool ready = false;
    std::optional<v1::WorkerInfo> info;
    int64_t outstanding = 0;
  };
  void Poll();
  void PollOne(size_t index);
  std::vector<WorkerView> Views(bool prefill) const;
  Worker* Find(const std::string& address, bool prefill);

  WorkerClients& clients_;
  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::vector<Worker> workers_;
  size_t rotation_ = 0;
  std::thread poller_;
};

}  // namespace winnow
