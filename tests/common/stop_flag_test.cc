#include "common/stop_flag.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace winnow {
namespace {

TEST(StopFlagTest, StartsUnset) {
  const StopFlag flag;
  EXPECT_FALSE(flag.IsStopped());
  EXPECT_EQ(flag.reason(), absl::StatusCode::kOk);
}

TEST(StopFlagTest, TheFirstReasonWins) {
  StopFlag flag;
  flag.Stop(absl::StatusCode::kCancelled);
  flag.Stop(absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(flag.IsStopped());
  EXPECT_EQ(flag.reason(), absl::StatusCode::kCancelled);
}

TEST(StopFlagTest, AllThreadsSeeOneReason) {
  for (int round = 0; round < 50; ++round) {
    StopFlag flag;
    std::vector<absl::StatusCode> seen(4);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        flag.Stop(t % 2 == 0 ? absl::StatusCode::kCancelled : absl::StatusCode::kAborted);
        seen[t] = flag.reason();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (absl::StatusCode code : seen) EXPECT_EQ(code, flag.reason());
  }
}

}  // namespace
}  // namespace winnow
