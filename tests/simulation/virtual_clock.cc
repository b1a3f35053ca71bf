#include "tests/simulation/virtual_clock.h"

#include <algorithm>

namespace winnow {

absl::Time VirtualClock::Now() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return now_;
}

void VirtualClock::At(absl::Time when, std::function<void()> event) {
  std::lock_guard<std::mutex> lock(mutex_);
  events_.emplace(std::pair{std::max(when, now_), next_event_++}, std::move(event));
}

void VirtualClock::After(absl::Duration delay, std::function<void()> event) {
  At(Now() + delay, std::move(event));
}

void VirtualClock::Park(Parked& parked) const {
  std::unique_lock<std::mutex> lock(mutex_);
  parked_.push_back(&parked);
  changed_.notify_all();
  parked.resume.wait(lock, [&] { return parked.resumed || released_; });
  if (!parked.resumed) parked_.remove(&parked);
}

void VirtualClock::WaitFor(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                           absl::Duration timeout, const std::function<bool()>& done) const {
  if (!released_ && !done()) {
    Parked parked{.until = Now() + timeout, .lock = lock.mutex(), .done = &done};
    lock.unlock();
    Park(parked);
    lock.lock();
  }
  if (released_) Clock::WaitFor(wake, lock, timeout, done);
}

void VirtualClock::Sleep(absl::Duration duration) const {
  if (released_) return;
  Parked parked{.until = Now() + duration};
  Park(parked);
}

void VirtualClock::AwaitThreads(size_t count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return parked_.size() >= count; });
}

bool VirtualClock::IsReady(const Parked& parked) const {
  if (parked.until <= Now()) return true;
  if (parked.done == nullptr) return false;
  std::lock_guard<std::mutex> lock(*parked.lock);
  return (*parked.done)();
}

// Only this thread runs now, so the list stands still while nobody is resumed.
bool VirtualClock::ResumeOne() {
  const auto ready = std::find_if(parked_.begin(), parked_.end(),
                                  [this](const Parked* parked) { return IsReady(*parked); });
  if (ready == parked_.end()) return false;
  std::unique_lock<std::mutex> lock(mutex_);
  const size_t all = parked_.size();
  Parked* const parked = *ready;
  parked_.erase(ready);
  parked->resumed = true;
  parked->resume.notify_all();
  changed_.wait(lock, [&] { return parked_.size() == all; });
  return true;
}

absl::Time VirtualClock::NextTime() const {
  std::lock_guard<std::mutex> lock(mutex_);
  absl::Time next = events_.empty() ? absl::InfiniteFuture() : events_.begin()->first.first;
  for (const Parked* parked : parked_) next = std::min(next, parked->until);
  return next;
}

void VirtualClock::RunUntil(absl::Time end, const std::function<bool()>& enough) {
  while (!enough()) {
    if (ResumeOne()) continue;
    const absl::Time next = NextTime();
    std::function<void()> event;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      now_ = std::max(now_, std::min(next, end));
      if (next > end) return;
      if (!events_.empty() && events_.begin()->first.first <= now_) {
        event = std::move(events_.extract(events_.begin()).mapped());
      }
    }
    if (event) event();
  }
}

void VirtualClock::Release() {
  std::lock_guard<std::mutex> lock(mutex_);
  released_ = true;
  for (Parked* parked : parked_) parked->resume.notify_all();
}

}  // namespace winnow
