#pragma once

#include <algorithm>

#include "absl/time/time.h"

namespace winnow {

// How long a request may wait for a worker: at most `max_wait`, and at most this share of the time
// to its deadline, since the rest is needed for the work itself.
struct WaitLimit {
  absl::Duration max_wait = absl::Seconds(10);
  double deadline_share = 0.25;

  // When a request that begins to wait now must stop waiting.
  absl::Time Until(absl::Time now, absl::Time deadline) const {
    return now + std::min(max_wait, (deadline - now) * deadline_share);
  }
};

}  // namespace winnow
