#pragma once

#include <atomic>

#include "absl/status/status.h"

namespace winnow {

// Set once by whoever wants a request to end, read by whoever works on it. The first reason wins.
// Thread-safe, lock-free.
class StopFlag {
 public:
  // REQUIRES: reason != kOk.
  void Stop(absl::StatusCode reason) {
    int expected = 0;
    reason_.compare_exchange_strong(expected, static_cast<int>(reason), std::memory_order_acq_rel);
  }
  bool IsStopped() const { return reason_.load(std::memory_order_acquire) != 0; }
  absl::StatusCode reason() const {
    return static_cast<absl::StatusCode>(reason_.load(std::memory_order_acquire));
  }

 private:
  std::atomic<int> reason_{0};
};

}  // namespace winnow
