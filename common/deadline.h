#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "common/clock.h"

namespace winnow {

// The moment by which something must have ended. A value: read once at the edge, then passed on.
class Deadline {
 public:
  static Deadline At(absl::Time when) { return Deadline(when); }
  static Deadline After(const Clock& clock, absl::Duration d) { return Deadline(clock.Now() + d); }
  static Deadline Infinite() { return Deadline(absl::InfiniteFuture()); }

  absl::Time when() const { return when_; }
  bool IsInfinite() const { return when_ == absl::InfiniteFuture(); }
  bool HasPassed(const Clock& clock) const { return clock.Now() >= when_; }
  // Time left, never negative.
  absl::Duration Remaining(const Clock& clock) const {
    return std::max(absl::ZeroDuration(), when_ - clock.Now());
  }
  Deadline Earlier(const Deadline& other) const { return Deadline(std::min(when_, other.when_)); }

 private:
  explicit Deadline(absl::Time when) : when_(when) {}
  absl::Time when_;
};

}  // namespace winnow
