#include "prefill_worker/deferred_tasks.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace winnow {
namespace {

// A device has no way to wake us, so its events are polled: often enough that a layer's KV leaves
// while the next layer computes.
constexpr absl::Duration kEventPoll = absl::Microseconds(50);
// Times are looked at this often at least, so that a clock which jumps is noticed.
constexpr absl::Duration kLongestPause = absl::Milliseconds(50);

}  // namespace

DeferredTasks::DeferredTasks(std::string name, const Clock& clock)
    : clock_(clock), thread_([this] { Loop(); }) {
  name.resize(std::min<size_t>(name.size(), 15));  // the kernel's limit
  pthread_setname_np(thread_.native_handle(), name.c_str());
}

DeferredTasks::~DeferredTasks() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DeferredTasks::Run(std::function<void()> task) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ready_.push_back(std::move(task));
    added_ = true;
  }
  changed_.notify_all();
}

void DeferredTasks::RunAt(absl::Time when, std::function<void()> task) {
  Add({nullptr, when, [task = std::move(task)](const absl::Status&) { task(); }});
}

void DeferredTasks::RunWhenDone(EventPtr event, Deadline latest,
                                std::function<void(const absl::Status&)> task) {
  Add({std::move(event), latest.when(), std::move(task)});
}

void DeferredTasks::Add(Waiting waiting) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(waiting));
    added_ = true;
  }
  changed_.notify_all();
}

void DeferredTasks::CollectReady() {
  const absl::Time now = clock_.Now();
  const auto result = [&](const Waiting& waiting) -> absl::Status {
    if (waiting.event == nullptr) return absl::OkStatus();
    if (waiting.event->IsDone()) return waiting.event->Wait(clock_, Deadline::At(now));
    if (stopping_) return absl::CancelledError("the prefill worker is shutting down");
    return absl::DeadlineExceededError("the device did not come to an event in time");
  };
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (!stopping_ && now < it->until && (it->event == nullptr || !it->event->IsDone())) {
      ++it;
      continue;
    }
    ready_.push_back([task = std::move(it->task), status = result(*it)] { task(status); });
    it = waiting_.erase(it);
  }
}

absl::Duration DeferredTasks::NextLook() const {
  absl::Duration pause = kLongestPause;
  const absl::Time now = clock_.Now();
  for (const Waiting& waiting : waiting_) {
    pause = std::min(pause, waiting.event != nullptr ? kEventPoll : waiting.until - now);
  }
  return std::max(pause, absl::Microseconds(1));
}

void DeferredTasks::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    added_ = false;
    CollectReady();
    if (!ready_.empty()) {
      std::function<void()> task = std::move(ready_.front());
      ready_.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // what the task owns goes without the lock
      lock.lock();
      continue;
    }
    if (stopping_) return;
    const auto has_news = [this] { return stopping_ || added_; };
    if (waiting_.empty()) {
      changed_.wait(lock, has_news);
    } else {
      clock_.WaitFor(changed_, lock, NextLook(), has_news);
    }
  }
}

}  // namespace winnow
