#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "plan/prefill_plan.h"
#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

SelectionConfig Uniform() {
  SelectionConfig config = DemoConfig();
  config.policy = &kUniformPolicy;
  return config;
}

std::vector<int32_t> Rows(const SelectionConfig& config, int64_t n) {
  return kUniformPolicy.choose_rows(config, MakePrefillPlan(DemoShape(), config, n));
}

TEST(UniformPolicyTest, RunsAndStoresTheKeptRowsOfEveryLayer) {
  const PrefillPlan plan = MakePrefillPlan(DemoShape(), Uniform(), 10'000);
  EXPECT_EQ(plan.kv.segments, (std::vector<KvSegment>{{12, KvForm::kSelected, 1000}}));
  EXPECT_EQ(plan.kv.next_position, 10'000);
  EXPECT_EQ(plan.kv.tail_begin, 10'000 - 256);
  EXPECT_EQ(plan.passes, (std::vector<PrefillPass>{{.is_selected = true,
                                                    .num_rows = 1000,
                                                    .last_layer = 11,
                                                    .first_scored_layer = 12,
                                                    .stores_kv = true,
                                                    .makes_logits = true}}));
}

TEST(UniformPolicyTest, KeepsHeadAndTailAtLeast) {
  EXPECT_EQ(MakePrefillPlan(DemoShape(), Uniform(), 1000).num_kept(), 64 + 256);
  EXPECT_TRUE(MakePrefillPlan(DemoShape(), Uniform(), 321).is_pruned());
  EXPECT_FALSE(MakePrefillPlan(DemoShape(), Uniform(), 320).is_pruned());
  SelectionConfig floor = Uniform();
  floor.min_prompt_tokens = 500;
  EXPECT_FALSE(MakePrefillPlan(DemoShape(), floor, 499).is_pruned());
}

TEST(UniformPolicyTest, ChoosesTheHeadTheTailAndASpreadBetween) {
  const std::vector<int32_t> rows = Rows(Uniform(), 10'000);
  ASSERT_EQ(rows.size(), 1000u);
  EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
  EXPECT_EQ(std::adjacent_find(rows.begin(), rows.end()), rows.end());
  for (int32_t row = 0; row < 64; ++row) EXPECT_EQ(rows[row], row);
  for (int32_t i = 0; i < 256; ++i) EXPECT_EQ(rows[1000 - 256 + i], 10'000 - 256 + i);
  // 680 of 9,680: every tenth of the middle has 68, give or take five standard deviations.
  for (int part = 0; part < 10; ++part) {
    const int32_t begin = 64 + 968 * part;
    const auto in_part = std::count_if(
        rows.begin(), rows.end(), [=](int32_t row) { return row >= begin && row < begin + 968; });
    EXPECT_NEAR(in_part, 68, 5 * 8) << part;
  }
}

TEST(UniformPolicyTest, TheSamplesOfALengthAreAlike) {
  // Ranks, retries and builds with another standard library must choose the same rows.
  const std::vector<int32_t> rows = Rows(Uniform(), 4000);
  ASSERT_EQ(rows.size(), 400u);
  EXPECT_THAT(std::vector<int32_t>(rows.begin() + 64, rows.begin() + 69),
              ElementsAre(93, 141, 172, 211, 239));
}

TEST(UniformPolicyTest, ProtectedPositionsAreKept) {
  SelectionConfig config = Uniform();
  config.protected_spans = {{3000, 3100}, {9990, 10'000}};
  const std::vector<int32_t> rows = Rows(config, 10'000);
  EXPECT_EQ(rows.size(), 1000u);
  for (int32_t row = 3000; row < 3100; ++row) EXPECT_THAT(rows, Contains(row));
  config.protected_prefix = 5000;
  EXPECT_EQ(Rows(config, 10'000).size(), 5000u + 256u);
}

}  // namespace
}  // namespace winnow
