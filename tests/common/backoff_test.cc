#include "common/backoff.h"

#include <gtest/gtest.h>

#include "common/retry_hint.h"

namespace winnow {
namespace {

TEST(BackoffTest, DoublesUpToALimitAndObeysTheHint) {
  const BackoffOptions options{.first = absl::Milliseconds(100), .longest = absl::Seconds(1)};
  const absl::Status gone = absl::UnavailableError("gone");
  EXPECT_EQ(Backoff(options, 1, 0, gone), absl::Milliseconds(100));
  EXPECT_EQ(Backoff(options, 3, 0, gone), absl::Milliseconds(400));
  EXPECT_EQ(Backoff(options, 3, 1, gone), absl::Milliseconds(600));
  EXPECT_EQ(Backoff(options, 1000, 0, gone), absl::Seconds(1));
  absl::Status full = absl::ResourceExhaustedError("full");
  SetRetryAfter(full, absl::Seconds(3));
  EXPECT_EQ(Backoff(options, 1, 0, full), absl::Seconds(3));
}

}  // namespace
}  // namespace winnow
