#include "prefill_worker/mailbox.h"

#include <utility>

namespace winnow {

void Mailbox::Post(Event event) {
  std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back(std::move(event));
  changed_.notify_all();
}

void Mailbox::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

void Mailbox::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

std::deque<Mailbox::Event> Mailbox::TakeAll() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(events_, {});
}

bool Mailbox::Wait(const Clock& clock, absl::Duration longest) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (longest > absl::ZeroDuration()) {
    clock.WaitFor(changed_, lock, longest,
                  [this] { return stopped_ || woken_ || !events_.empty(); });
  }
  woken_ = false;
  return !stopped_;
}

}  // namespace winnow
