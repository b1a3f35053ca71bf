#include "common/backoff.h"

#include <algorithm>

#include "common/retry_hint.h"

namespace winnow {

absl::Duration Backoff(const BackoffOptions& options, int failed_attempts, double jitter,
                       const absl::Status& failure) {
  const int doublings = std::clamp(failed_attempts - 1, 0, 20);
  absl::Duration delay = std::min(options.first * (1 << doublings), options.longest);
  delay += delay * (jitter / 2);
  if (const auto hint = GetRetryAfter(failure)) delay = std::max(delay, *hint);
  return delay;
}

}  // namespace winnow
