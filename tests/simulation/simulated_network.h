#pragma once

#include <functional>
#include <utility>

#include "tests/simulation/virtual_clock.h"

namespace winnow {

// Every message takes the same time, so messages arrive in the order in which they were sent.
class SimulatedNetwork {
 public:
  SimulatedNetwork(VirtualClock& clock, absl::Duration latency)
      : clock_(clock), latency_(latency) {}

  // Runs `deliver` when the message arrives.
  void Send(std::function<void()> deliver) { clock_.After(latency_, std::move(deliver)); }
  // One that has `bytes` of KV before it.
  void SendAfterKv(int64_t bytes, std::function<void()> deliver) {
    clock_.After(latency_ + absl::Seconds(static_cast<double>(bytes) / kBytesPerSecond),
                 std::move(deliver));
  }
  VirtualClock& clock() { return clock_; }

 private:
  static constexpr double kBytesPerSecond = 5e9;  // of one handoff: docs/performance.md

  VirtualClock& clock_;
  const absl::Duration latency_;
};

}  // namespace winnow
