#pragma once

#include <algorithm>

#include "absl/time/time.h"

namespace winnow {

// How long a request waits for a worker: for `max_wait` at most, and for this share of the time
// that its deadline leaves; the rest is for the work itself.
struct WaitLimit {
  absl::Duration max_wait = absl::Seconds(10);
  double deadline_share = 0.25;

  // Of one that begins to wait now.
  absl::Time Until(absl::Time now, absl::Time deadline) const {
    return now + std::min(max_wait, (deadline - now) * deadline_share);
  }
};

}  // namespace winnow
