#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "router/worker_source.h"

namespace winnow {

// Names the workers that the test says. Thread-safe.
class FakeWorkerSource final : public WorkerSource {
 public:
  FakeWorkerSource() = default;
  FakeWorkerSource(const std::vector<std::string>& prefill,
                   const std::vector<std::string>& decode) {
    Set(prefill, decode);
  }
  void Set(std::vector<WorkerAddress> workers) {
    std::lock_guard<std::mutex> lock(mutex_);
    workers_ = std::move(workers);
  }
  void Set(const std::vector<std::string>& prefill, const std::vector<std::string>& decode) {
    std::vector<WorkerAddress> workers;
    for (const std::string& address : prefill)
      workers.push_back({address, v1::WORKER_ROLE_PREFILL});
    for (const std::string& address : decode) workers.push_back({address, v1::WORKER_ROLE_DECODE});
    Set(std::move(workers));
  }
  std::vector<WorkerAddress> Workers() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return workers_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<WorkerAddress> workers_;
};

}  // namespace winnow
