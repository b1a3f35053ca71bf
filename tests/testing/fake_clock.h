#pragma once

#include <mutex>

#include "absl/time/time.h"
#include "common/clock.h"

namespace winnow {

// Time that moves when the test says so.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return now_;
  }
  void Advance(absl::Duration by) {
    std::lock_guard<std::mutex> lock(mutex_);
    now_ += by;
  }

 private:
  mutable std::mutex mutex_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
};

}  // namespace winnow
