#include "client/cli/canary_metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

TEST(CanaryTest, AnAnswerIsRightWhenItHoldsTheExpectedTextInAnyCase) {
  EXPECT_TRUE(IsRightAnswer("It is PARIS.", "paris"));
  EXPECT_TRUE(IsRightAnswer("paris", "Paris"));
  EXPECT_FALSE(IsRightAnswer("It is Rome.", "Paris"));
  EXPECT_FALSE(IsRightAnswer("", "Paris"));
}

TEST(CanaryMetricsTest, TheLastAnswerStandsAndAllAreCounted) {
  MetricsRegistry registry;
  CanaryMetrics metrics(registry);
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_canary_runs_total{outcome=\"wrong\"} 0\n"));
  metrics.OnAnswer(CanaryOutcome::kRight, 1000, 0.25, 0.5);
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_canary_right 1\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_canary_ttft_seconds 0.25\n"));
  metrics.OnAnswer(CanaryOutcome::kWrong, 1060, 0.25, 0.5);
  metrics.OnAnswer(CanaryOutcome::kError, 1120, 0, 0);
  const std::string text = registry.Serialize();
  for (const char* line :
       {"winnow_canary_right 0\n", "winnow_canary_runs_total{outcome=\"right\"} 1\n",
        "winnow_canary_runs_total{outcome=\"wrong\"} 1\n",
        "winnow_canary_runs_total{outcome=\"error\"} 1\n",
        "winnow_canary_last_run_timestamp_seconds 1120\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace winnow
