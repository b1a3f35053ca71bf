#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace winnow {

// Asks again and again, for 20 s at most, until `done()`; returns whether it was. For what shows
// only in the state of the tested object and is announced to nobody: a test that can be told waits
// at a Gate or on a condition variable.
inline bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 10'000 && !done(); ++i) absl::SleepFor(absl::Milliseconds(2));
  return done();
}

}  // namespace winnow
