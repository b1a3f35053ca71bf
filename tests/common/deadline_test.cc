#include "common/deadline.h"

#include <gtest/gtest.h>

#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

TEST(DeadlineTest, PassesExactlyAtItsMoment) {
  FakeClock clock;
  const Deadline deadline = Deadline::After(clock, absl::Seconds(2));
  EXPECT_EQ(deadline.Remaining(clock), absl::Seconds(2));
  clock.Advance(absl::Seconds(2) - absl::Nanoseconds(1));
  EXPECT_FALSE(deadline.HasPassed(clock));
  clock.Advance(absl::Nanoseconds(1));
  EXPECT_TRUE(deadline.HasPassed(clock));
  clock.Advance(absl::Hours(1));
  EXPECT_EQ(deadline.Remaining(clock), absl::ZeroDuration());
}

TEST(DeadlineTest, InfiniteNeverPasses) {
  FakeClock clock;
  clock.Advance(absl::Hours(1'000'000));
  EXPECT_FALSE(Deadline::Infinite().HasPassed(clock));
  EXPECT_EQ(Deadline::Infinite().Remaining(clock), absl::InfiniteDuration());
  EXPECT_TRUE(Deadline::After(clock, absl::InfiniteDuration()).IsInfinite());
}

TEST(DeadlineTest, EarlierIsTheOneThatComesFirst) {
  const Deadline soon = Deadline::At(absl::FromUnixSeconds(10));
  const Deadline late = Deadline::At(absl::FromUnixSeconds(20));
  EXPECT_EQ(soon.Earlier(late).when(), soon.when());
  EXPECT_EQ(late.Earlier(soon).when(), soon.when());
  EXPECT_EQ(Deadline::Infinite().Earlier(late).when(), late.when());
}

TEST(RealClockTest, NeverRunsBackwardsAndIsNearWallTime) {
  const RealClock clock;
  absl::Time last = clock.Now();
  EXPECT_LT(absl::AbsDuration(last - absl::Now()), absl::Minutes(1));
  for (int i = 0; i < 1000; ++i) {
    const absl::Time now = clock.Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

}  // namespace
}  // namespace winnow
