#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace winnow {

struct BackoffOptions {
  absl::Duration first = absl::Milliseconds(100);
  absl::Duration longest = absl::Seconds(5);
};

// The pause before the attempt that follows `failed_attempts` (≥ 1) failures: doubles from `first`
// to `longest`, is up to a half longer by `jitter` in [0, 1], and is at least the failure's own
// hint (common/retry_hint.h). Pure.
absl::Duration Backoff(const BackoffOptions& options, int failed_attempts, double jitter,
                       const absl::Status& failure);

}  // namespace winnow
