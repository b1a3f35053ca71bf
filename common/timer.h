#pragma once

#include <functional>

#include "absl/time/time.h"

namespace winnow {

// Runs functions later. An interface beside Clock, so that tests can decide when a delay is over.
// Thread-safe.
class Timer {
 public:
  virtual ~Timer() = default;
  // Runs `callback` once after `delay`, on any thread, never from inside the call: the caller may
  // hold a lock that the callback takes. The delay may end a little early. Nothing cancels a
  // callback, so one that may come too late has to find that out itself.
  virtual void After(absl::Duration delay, std::function<void()> callback) = 0;
};

}  // namespace winnow
