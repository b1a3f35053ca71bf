#include "common/retry_hint.h"

#include <gtest/gtest.h>

namespace winnow {
namespace {

TEST(RetryHintTest, IsRoundedUpToMillisecondsAndNeverNegative) {
  absl::Status status = absl::UnavailableError("draining");
  EXPECT_FALSE(GetRetryAfter(status).has_value());
  SetRetryAfter(status, absl::Microseconds(1200));
  EXPECT_EQ(GetRetryAfter(status), absl::Milliseconds(2));
  SetRetryAfter(status, absl::Seconds(-1));
  EXPECT_EQ(GetRetryAfter(status), absl::ZeroDuration());
}

TEST(RetryHintTest, OkCarriesNone) {
  absl::Status status = absl::OkStatus();
  SetRetryAfter(status, absl::Seconds(1));
  EXPECT_FALSE(GetRetryAfter(status).has_value());
}

}  // namespace
}  // namespace winnow
