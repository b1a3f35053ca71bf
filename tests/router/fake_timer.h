#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "common/timer.h"

namespace winnow {

// A timer whose delays end when the test says so. Not thread-safe.
class FakeTimer final : public Timer {
 public:
  void After(absl::Duration delay, std::function<void()> callback) override {
    delays.push_back(delay);
    callbacks.push_back(std::move(callback));
  }
  // Runs what waits; what is added meanwhile stays.
  void Fire() {
    for (const auto& callback : std::exchange(callbacks, {})) callback();
  }

  std::vector<absl::Duration> delays;  // of all that was ever added
  std::vector<std::function<void()>> callbacks;
};

}  // namespace winnow
