#include <gtest/gtest.h>

#include "plan/prefill_plan.h"

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

PrefillPlan Plan(const SelectionConfig& config, int64_t n) {
  return MakePrefillPlan(DemoShape(), config, n);
}

SelectionConfig Full() {
  SelectionConfig config = DemoConfig();
  config.policy = &kFullPolicy;
  return config;
}

TEST(ClaaPolicyTest, PrunesOnlyWhenMoreTokensExistThanAreKept) {
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
    const PrefillPlan plan = Plan(DemoConfig(), row.n);
    EXPECT_EQ(plan.is_pruned(), row.pruned) << row.n;
    EXPECT_EQ(plan.num_kept(), row.kept) << row.n;
    EXPECT_EQ(plan.kv.num_prompt_tokens, row.n);
    if (row.pruned) {
      EXPECT_EQ(plan.kv.tail_begin, row.n - 8);
    } else {
      EXPECT_EQ(plan, Plan(Full(), row.n)) << row.n;
    }
  }
}

TEST(ClaaPolicyTest, WindowAndOffsetAreAlwaysKeptAndOneMore) {
  SelectionConfig config = DemoConfig();
  config.window = 5;
  config.window_offset = 3;
  config.keep_ppm = 1;
  EXPECT_FALSE(Plan(config, 9).is_pruned());
  EXPECT_EQ(Plan(config, 10).num_kept(), 9);
  EXPECT_EQ(Plan(config, 10).kv.tail_begin, 2);
}

TEST(ClaaPolicyTest, KeepAllPrunesNothing) {
  SelectionConfig config = DemoConfig();
  config.keep_ppm = 1'000'000;
  EXPECT_FALSE(Plan(config, 5000).is_pruned());
  config.keep_ppm = 999'999;
  EXPECT_EQ(Plan(config, 5000).num_kept(), 4999);
}

TEST(ClaaPolicyTest, GuardRailsHoldToTheToken) {
  SelectionConfig config = DemoConfig();
  config.min_prompt_tokens = 512;
  config.min_kept_tokens = 64;
  EXPECT_FALSE(Plan(config, 511).is_pruned());
  EXPECT_TRUE(Plan(config, 512).is_pruned());
  EXPECT_EQ(Plan(config, 512).num_kept(), 64);
  EXPECT_EQ(Plan(config, 649).num_kept(), 64);
  EXPECT_EQ(Plan(config, 650).num_kept(), 65);
  config.min_prompt_tokens = 0;
  EXPECT_FALSE(Plan(config, 64).is_pruned());
  EXPECT_TRUE(Plan(config, 65).is_pruned());
}

TEST(ClaaPolicyTest, ProtectedPositionsRaiseTheCount) {
  SelectionConfig config = DemoConfig();
  config.protected_prefix = 20;
  EXPECT_EQ(Plan(config, 200).num_kept(), 28);    // 20 + the window's 8, more than a tenth
  EXPECT_EQ(Plan(config, 1000).num_kept(), 100);  // fits already
  config.protected_spans = {
      {15, 25}, {190, 1000}};  // overlaps the prefix; reaches into the window and beyond N
  EXPECT_EQ(Plan(config, 200).num_kept(), 25 + 2 + 8);
  config.protected_prefix = 1 << 20;  // all
  EXPECT_FALSE(Plan(config, 200).is_pruned());
}

TEST(ClaaPolicyTest, FormsFollowTheLayers) {
  const PrefillPlan plan = Plan(DemoConfig(), 1000);
  EXPECT_EQ(plan.kv.segments,
            (std::vector<KvSegment>{
                {2, KvForm::kAll, 1000}, {4, KvForm::kPerHead, 100}, {6, KvForm::kSelected, 100}}));
  EXPECT_EQ(plan.kv.next_position, 1000);
}

TEST(ClaaPolicyTest, AllRowsReachTheSelectionLayerAndTheKeptOnesGoOn) {
  const PrefillPlan plan = Plan(DemoConfig(), 1000);
  const PrefillPass all{
      .num_rows = 1000, .last_layer = 5, .first_scored_layer = 2, .stores_kv = true};
  const PrefillPass kept{.source = 0,
                         .is_selected = true,
                         .num_rows = 100,
                         .first_layer = 5,
                         .last_layer = 11,
                         .first_scored_layer = 12,
                         .stores_kv = true,
                         .makes_logits = true};
  EXPECT_EQ(plan.passes, (std::vector<PrefillPass>{all, kept}));
}

TEST(ClaaPolicyTest, SegmentsWithoutLayersAreLeftOut) {
  SelectionConfig config = DemoConfig();
  config.uncompacted_layers = 0;
  EXPECT_EQ(Plan(config, 1000).kv.segments,
            (std::vector<KvSegment>{{6, KvForm::kPerHead, 100}, {6, KvForm::kSelected, 100}}));
  config.uncompacted_layers = 6;
  EXPECT_EQ(Plan(config, 1000).kv.segments,
            (std::vector<KvSegment>{{6, KvForm::kAll, 1000}, {6, KvForm::kSelected, 100}}));
}

TEST(ClaaPolicyTest, ScoredLayersServeCompactionAndAggregation) {
  struct Row {
    int m, n, first_scored, first_aggregated;
  };
  for (const Row& row :
       std::vector<Row>{{0, 1, 0, 5}, {6, 1, 5, 5}, {6, 6, 0, 0}, {3, 4, 2, 2}, {1, 4, 1, 2}}) {
    SelectionConfig config = DemoConfig();
    config.uncompacted_layers = row.m;
    config.aggregate_layers = row.n;
    EXPECT_EQ(Plan(config, 1000).passes[0].first_scored_layer, row.first_scored)
        << row.m << " " << row.n;
    EXPECT_EQ(FirstAggregatedLayer(config), row.first_aggregated) << row.m << " " << row.n;
  }
}

TEST(ClaaPolicyTest, CountsPayloadIn64Bits) {
  ModelShape shape = DemoShape();
  shape.num_layers = 80;
  shape.num_kv_heads = 8;
  shape.head_dim = 128;
  const int64_t n = 2'000'000'000;
  const PrefillPlan plan = MakePrefillPlan(shape, DemoConfig(), n);
  EXPECT_EQ(plan.num_kept(), 200'000'000);
  EXPECT_EQ(plan.kv.full_payload_bytes(2), n * 80 * 8 * 2 * 128 * 2);
  EXPECT_EQ(plan.kv.payload_bytes(2), (2 * n + 78 * (n / 10)) * 8 * 2 * 128 * 2);
}

}  // namespace
}  // namespace winnow
