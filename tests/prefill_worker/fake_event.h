#pragma once

#include <mutex>
#include <utility>

#include "engine/device/backend.h"

namespace winnow {

// A point in a device's queue that is reached when the test says so. Thread-safe.
class FakeEvent final : public Event {
 public:
  // The queue has come here; not OK: with a deferred error.
  void SetDone(absl::Status status = absl::OkStatus()) {
    std::lock_guard<std::mutex> lock(mutex_);
    is_done_ = true;
    status_ = std::move(status);
  }
  bool IsDone() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return is_done_;
  }
  // Does not block: asked for the result of an event that is done.
  absl::Status Wait(const Clock&, Deadline) override {
    std::lock_guard<std::mutex> lock(mutex_);
    return is_done_ ? status_ : absl::DeadlineExceededError("the event is not done");
  }

 private:
  mutable std::mutex mutex_;
  bool is_done_ = false;
  absl::Status status_;
};

}  // namespace winnow
