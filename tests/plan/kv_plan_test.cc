#include "plan/kv_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

KvPlan Plan(const SelectionConfig& config, int64_t n) { return MakeKvPlan(DemoShape(), config, n); }

SelectionConfig Full() {
  SelectionConfig config = DemoConfig();
  config.policy = SelectionPolicy::kFull;
  return config;
}

TEST(KvPlanTest, PrunesOnlyWhenMoreTokensExistThanAreKept) {
  // C = W + z + 1 = 9 as long as a tenth of N is less.
  struct Row {
    int64_t n;
    bool pruned;
    int64_t kept;
  };
  for (const Row& row : std::vector<Row>{{1, false, 1},
                                         {7, false, 7},
                                         {8, false, 8},
                                         {9, false, 9},
                                         {10, true, 9},
                                         {89, true, 9},
                                         {99, true, 9},
                                         {100, true, 10},
                                         {109, true, 10},
                                         {110, true, 11},
                                         {12345, true, 1234}}) {
    const KvPlan plan = Plan(DemoConfig(), row.n);
    EXPECT_EQ(plan.pruned, row.pruned) << row.n;
    EXPECT_EQ(plan.num_kept, row.kept) << row.n;
    EXPECT_EQ(plan.num_prompt_tokens, row.n);
    if (row.pruned) {
      EXPECT_EQ(plan.window_begin, row.n - 8);
    } else {
      EXPECT_EQ(plan, Plan(Full(), row.n)) << row.n;
    }
  }
}

TEST(KvPlanTest, WindowAndOffsetAreAlwaysKeptAndOneMore) {
  SelectionConfig config = DemoConfig();
  config.window = 5;
  config.window_offset = 3;
  config.keep_ppm = 1;
  EXPECT_FALSE(Plan(config, 9).pruned);
  EXPECT_EQ(Plan(config, 10).num_kept, 9);
  EXPECT_EQ(Plan(config, 10).window_begin, 2);
}

TEST(KvPlanTest, KeepAllPrunesNothing) {
  SelectionConfig config = DemoConfig();
  config.keep_ppm = 1'000'000;
  EXPECT_FALSE(Plan(config, 5000).pruned);
  config.keep_ppm = 999'999;
  EXPECT_EQ(Plan(config, 5000).num_kept, 4999);
}

TEST(KvPlanTest, GuardRailsHoldToTheToken) {
  SelectionConfig config = DemoConfig();
  config.min_prompt_tokens = 512;
  config.min_kept_tokens = 64;
  EXPECT_FALSE(Plan(config, 511).pruned);
  EXPECT_TRUE(Plan(config, 512).pruned);
  EXPECT_EQ(Plan(config, 512).num_kept, 64);
  EXPECT_EQ(Plan(config, 649).num_kept, 64);
  EXPECT_EQ(Plan(config, 650).num_kept, 65);
  config.min_prompt_tokens = 0;
  EXPECT_FALSE(Plan(config, 64).pruned);
  EXPECT_TRUE(Plan(config, 65).pruned);
}

TEST(KvPlanTest, ProtectedPositionsRaiseTheCount) {
  SelectionConfig config = DemoConfig();
  config.protected_prefix = 20;
  EXPECT_EQ(Plan(config, 200).num_kept, 28);    // 20 + the window's 8, more than a tenth
  EXPECT_EQ(Plan(config, 1000).num_kept, 100);  // fits already
  config.protected_spans = {
      {15, 25}, {190, 1000}};  // overlaps the prefix; reaches into the window and beyond N
  EXPECT_EQ(Plan(config, 200).num_kept, 25 + 2 + 8);
  config.protected_prefix = 1 << 20;  // all
  EXPECT_FALSE(Plan(config, 200).pruned);
}

TEST(KvPlanTest, FormsFollowTheLayers) {
  const KvPlan plan = Plan(DemoConfig(), 1000);
  EXPECT_EQ(plan.first_compacted_layer, 2);
  EXPECT_EQ(plan.pivot_layer, 5);
  EXPECT_EQ(plan.first_aggregated_layer, 2);
  EXPECT_EQ(plan.first_scored_layer, 2);
  for (int layer = 0; layer < 12; ++layer) {
    const KvLayerForm form = layer < 2    ? KvLayerForm::kAll
                             : layer <= 5 ? KvLayerForm::kPerHead
                                          : KvLayerForm::kSelected;
    EXPECT_EQ(plan.form(layer), form) << layer;
    EXPECT_EQ(plan.entries(layer), layer < 2 ? 1000 : 100) << layer;
    EXPECT_EQ(plan.position_rows(layer), layer < 2 ? 0 : layer <= 5 ? 4 : 1) << layer;
    EXPECT_EQ(plan.is_scored(layer), layer >= 2 && layer <= 5) << layer;
  }
  EXPECT_EQ(plan.num_phase2_rows(), 100);
}

TEST(KvPlanTest, ScoredLayersServeCompactionAndAggregation) {
  struct Row {
    int m, n, first_scored, first_aggregated;
  };
  for (const Row& row :
       std::vector<Row>{{0, 1, 0, 5}, {6, 1, 5, 5}, {6, 6, 0, 0}, {3, 4, 2, 2}, {1, 4, 1, 2}}) {
    SelectionConfig config = DemoConfig();
    config.uncompacted_layers = row.m;
    config.aggregate_layers = row.n;
    const KvPlan plan = Plan(config, 1000);
    EXPECT_EQ(plan.first_scored_layer, row.first_scored) << row.m << " " << row.n;
    EXPECT_EQ(plan.first_aggregated_layer, row.first_aggregated) << row.m << " " << row.n;
  }
}

TEST(KvPlanTest, AnUnprunedPlanScoresNothingAndTrimsTheLastLayer) {
  const KvPlan plan = Plan(Full(), 1000);
  EXPECT_EQ(plan.pivot_layer, 11);
  EXPECT_EQ(plan.num_phase2_rows(), 1);
  for (int layer = 0; layer < 12; ++layer) {
    EXPECT_EQ(plan.form(layer), KvLayerForm::kAll);
    EXPECT_FALSE(plan.is_scored(layer));
  }
  EXPECT_EQ(plan.payload_bytes(2), plan.full_payload_bytes(2));
}

TEST(KvPlanTest, CountsPayloadIn64Bits) {
  ModelShape shape = DemoShape();
  shape.num_layers = 80;
  shape.num_kv_heads = 8;
  shape.head_dim = 128;
  const int64_t n = 2'000'000'000;
  const KvPlan plan = MakeKvPlan(shape, DemoConfig(), n);
  EXPECT_EQ(plan.num_kept, 200'000'000);
  EXPECT_EQ(plan.full_payload_bytes(2), n * 80 * 8 * 2 * 128 * 2);
  EXPECT_EQ(plan.payload_bytes(2), (2 * n + 78 * (n / 10)) * 8 * 2 * 128 * 2);
}

TEST(ProtectedSpansTest, AreClippedMergedAndAscending) {
  SelectionConfig config;
  EXPECT_THAT(ProtectedSpans(config, 100), IsEmpty());
  config.protected_prefix = 5;
  config.protected_spans = {{50, 60}, {5, 7}, {20, 20}, {55, 70}, {52, 53}, {99, 300}, {400, 500}};
  EXPECT_THAT(ProtectedSpans(config, 100),
              ElementsAre(PositionSpan{0, 7}, PositionSpan{50, 70}, PositionSpan{99, 100}));
  EXPECT_THAT(ProtectedSpans(config, 3), ElementsAre(PositionSpan{0, 3}));
  EXPECT_THAT(ProtectedSpans(config, 0), IsEmpty());
  EXPECT_THAT(ProtectedSpans(config, -7), IsEmpty());
}

}  // namespace
}  // namespace winnow
