#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <utility>

#include "common/clock.h"
#include "common/timer.h"

namespace winnow {

// The time of a simulation. It stands still while anything runs and jumps to the next event once
// everything waits. Events run on the thread that calls RunUntil; other threads take part by
// waiting in WaitFor and Sleep, and only one of all runs at a time, in an order that depends on
// nothing but the simulation: so the same simulation gives the same result every time.
class VirtualClock final : public Clock, public Timer {
 public:
  absl::Time Now() const override;

  // Runs `event` at that time (now, if it has passed), after those that were added for the same
  // time before. Any thread that takes part may call it.
  void At(absl::Time when, std::function<void()> event);
  void After(absl::Duration delay, std::function<void()> event) override;

  // Parks the thread until `done()`, which is asked after every event, or until the time is over.
  void WaitFor(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
               absl::Duration timeout, const std::function<bool()>& done) const override;
  // Parks the thread for that long: the time of work that is not done.
  void Sleep(absl::Duration duration) const;

  // Blocks until `count` threads are parked: call it after starting each one, so that it does not
  // run beside the others.
  void AwaitThreads(size_t count);
  // Runs all that happens until `end`, or until `enough()`, asked after every event.
  void RunUntil(
      absl::Time end, const std::function<bool()>& enough = [] { return false; });
  // From now on threads wait by the real time, and RunUntil is over: call it before whoever waits
  // is destroyed.
  void Release();

 private:
  // A thread that waits; lives on its stack.
  struct Parked {
    absl::Time until;
    std::mutex* lock = nullptr;                   // held while `done` is asked
    const std::function<bool()>* done = nullptr;  // null: only time ends it
    bool resumed = false;
    std::condition_variable resume;
  };

  void Park(Parked& parked) const;
  bool IsReady(const Parked& parked) const;
  // Lets the first thread that is ready run until it parks again; false when none is.
  bool ResumeOne();
  absl::Time NextTime() const;

  mutable std::mutex mutex_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::map<std::pair<absl::Time, int64_t>, std::function<void()>> events_;
  int64_t next_event_ = 0;
  mutable std::list<Parked*> parked_;  // in the order in which they came
  mutable std::condition_variable changed_;
  std::atomic<bool> released_{false};
};

}  // namespace winnow
