#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace winnow {

// Where time comes from. Every deadline, lease and stage duration is read from a Clock, so that
// tests can move time. Thread-safe. Never runs backwards.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;

  // Blocks until `done()` or for `timeout`; `lock` is held whenever `done` is asked, and on return.
  // A thread that works by turns waits here between two of them, so that a simulation can run it in
  // step with its own time.
  virtual void WaitFor(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                       absl::Duration timeout, const std::function<bool()>& done) const {
    wake.wait_for(lock, absl::ToChronoMicroseconds(timeout), done);
  }
};

// Wall time at start plus steady time since, so that a step of the system clock moves no deadline.
class RealClock final : public Clock {
 public:
  absl::Time Now() const override {
    return start_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_start_);
  }

 private:
  absl::Time start_ = absl::Now();
  std::chrono::steady_clock::time_point steady_start_ = std::chrono::steady_clock::now();
};

}  // namespace winnow
