#include "prefill_worker/backlog.h"

#include <gtest/gtest.h>

namespace winnow {
namespace {

TEST(BacklogTest, APrunedPromptIsLessWork) {
  PrefillPlan plan;
  plan.passes = {{.num_rows = 100, .last_layer = 9, .makes_logits = true}};
  EXPECT_EQ(Backlog::WorkOf(plan), 9 * 100);
  plan.passes = {
      {.num_rows = 100, .last_layer = 5},
      {.source = 0, .num_rows = 10, .first_layer = 5, .last_layer = 9, .makes_logits = true}};
  EXPECT_EQ(Backlog::WorkOf(plan), 5 * 100 + 4 * 10);
  EXPECT_EQ(Backlog::WorkOf(plan.passes[1], 3), 4 * 3);
}

TEST(BacklogTest, NobodyIsRefusedOnAGuess) {
  Backlog backlog;
  backlog.Add(1e9);
  EXPECT_EQ(backlog.TimeFor(1e9, 0), absl::ZeroDuration());
}

TEST(BacklogTest, TheLastStepsDecideTheRate) {
  Backlog backlog;
  backlog.Add(1000);
  for (int i = 0; i < 10; ++i) backlog.OnStep({{0, 100}}, absl::Seconds(1), absl::Seconds(1));
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor()), 10, 1e-6);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor(500, 0)), 15, 1e-6);
  for (int i = 0; i < 200; ++i) backlog.OnStep({{0, 100}}, absl::Seconds(2), absl::Seconds(2));
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor()), 20, 0.1);
  backlog.Remove(600);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor()), 8, 0.1);
  backlog.Remove(600);  // never less than nothing
  EXPECT_EQ(backlog.TimeFor(), absl::ZeroDuration());
}

TEST(BacklogTest, APromptWaitsForItsOwnAndHigherPriorities) {
  Backlog backlog;
  for (int i = 0; i < 200; ++i) backlog.OnStep({{0, 100}}, absl::Seconds(1), absl::Seconds(1));
  backlog.Add(300, 1);
  backlog.Add(1000, 0);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor(100, 2)), 1, 0.1);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor(100, 1)), 4, 0.1);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor(100, 0)), 14, 0.1);
  EXPECT_NEAR(absl::ToDoubleSeconds(backlog.TimeFor()), 13, 0.1);
}

// Urgent prompts took half of the time lately, in one case with as much time to spare.
TEST(BacklogTest, UrgentPromptsGoOnComingAsTheyDid) {
  Backlog busy, idle;
  for (int i = 0; i < 200; ++i) {
    busy.OnStep({{0, 50}, {1, 50}}, absl::Seconds(1), absl::Seconds(1));
    idle.OnStep({{0, 50}, {1, 50}}, absl::Seconds(1), absl::Seconds(2));
  }
  EXPECT_NEAR(absl::ToDoubleSeconds(busy.TimeFor(300, 0)), 6, 0.1);
  EXPECT_NEAR(absl::ToDoubleSeconds(busy.TimeFor(300, 1)), 3, 0.1);
  EXPECT_NEAR(absl::ToDoubleSeconds(idle.TimeFor(300, 0)), 4, 0.1);
  busy.Add(300);
  EXPECT_NEAR(busy.WorkAhead(), 600, 5);
}

}  // namespace
}  // namespace winnow
