#include "plan/prefill_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

PrefillPlan Claa() { return MakePrefillPlan(DemoShape(), DemoConfig(), 1000); }

TEST(PrefillPlanTest, AnUnprunedPlanRunsAndStoresEveryRow) {
  const PrefillPlan plan = UnprunedPlan(DemoShape(), 1000);
  EXPECT_FALSE(plan.is_pruned());
  EXPECT_EQ(plan.num_kept(), 1000);
  EXPECT_EQ(plan.kv.segments, (std::vector<KvSegment>{{12, KvForm::kAll, 1000}}));
  ASSERT_EQ(plan.passes.size(), 1u);
  EXPECT_EQ(ComputedTokenLayers(plan.passes[0]), 11 * 1000 + 1);
  EXPECT_EQ(plan.kv.payload_bytes(2), plan.kv.full_payload_bytes(2));
}

TEST(PrefillPlanTest, APassThatGoesOnMakesNoKvOfItsFirstLayer) {
  const PrefillPlan plan = Claa();
  EXPECT_EQ(FirstKvLayer(plan.passes[0]), 0);
  EXPECT_EQ(FirstKvLayer(plan.passes[1]), 6);
  EXPECT_EQ(ComputedTokenLayers(plan.passes[0]), 5 * 1000);
  EXPECT_EQ(ComputedTokenLayers(plan.passes[1]), 6 * 100 + 1);
}

TEST(PrefillPlanTest, KeptAreTheRowsThatGiveTokenZero) {
  PrefillPlan plan = Claa();
  EXPECT_EQ(plan.num_kept(), 100);
  PrefillPass completion = plan.passes[1];  // all rows after the draft, for what is stored
  completion.is_selected = false;
  completion.num_rows = 1000;
  plan.passes.push_back(completion);
  EXPECT_EQ(plan.num_kept(), 100);
}

TEST(PrefillPlanTest, EveryPolicysPlanAgreesWithItself) {
  for (const Policy* policy : Policies()) {
    SelectionConfig config = DemoConfig();
    config.policy = policy;
    for (const int64_t keep_ppm : {1, 100'000, 900'000, 1'000'000}) {
      for (const int m : {0, 2, 6}) {
        for (int64_t n = 1; n < 2000; n = n < 700 ? n + 1 : n + 97) {
          config.keep_ppm = keep_ppm;
          config.uncompacted_layers = m;
          const PrefillPlan plan = MakePrefillPlan(DemoShape(), config, n);
          ASSERT_EQ(CheckPrefillPlan(plan), absl::OkStatus())
              << policy->name << " " << keep_ppm << " " << m << " " << n;
          ASSERT_EQ(plan.kv.num_prompt_tokens, n);
        }
      }
    }
  }
}

// Plans at the edges of what is allowed.
TEST(PrefillPlanTest, AcceptsWhatPoliciesMayWant) {
  const ModelShape shape = DemoShape();
  PrefillPlan one_row = Claa();
  one_row.passes[1].num_rows = 1;
  one_row.kv.segments[2].entries = 1;
  EXPECT_EQ(CheckPrefillPlan(one_row), absl::OkStatus());

  PrefillPlan every_row = Claa();  // a selection that leaves nothing out
  every_row.passes[1].num_rows = 1000;
  every_row.kv.segments[2].entries = 1000;
  EXPECT_EQ(CheckPrefillPlan(every_row), absl::OkStatus());

  PrefillPlan restart = UnprunedPlan(shape, 100);
  restart.kv.segments[0].entries = 10;
  PrefillPass scoring = restart.passes[0];  // of one layer
  scoring.last_layer = scoring.first_scored_layer = 0;
  scoring.stores_kv = scoring.makes_logits = false;
  restart.passes[0].is_selected = restart.passes[0].is_renumbered = true;
  restart.passes[0].num_rows = 10;
  restart.passes.insert(restart.passes.begin(), scoring);
  EXPECT_EQ(CheckPrefillPlan(restart), absl::OkStatus());

  PrefillPlan completed = Claa();  // all rows behind the draft
  PrefillPass completion = completed.passes[1];
  completion.is_selected = false;
  completion.num_rows = 1000;
  completed.passes[1].stores_kv = false;
  completed.passes.push_back(completion);
  completed.kv.segments[2].entries = 1000;
  EXPECT_EQ(CheckPrefillPlan(completed), absl::OkStatus());
}

TEST(PrefillPlanTest, RefusesPlansThatContradictThemselves) {
  using Change = std::function<void(PrefillPlan&)>;
  const std::vector<std::pair<std::string, Change>> cases = {
      {"goes on from pass 1, which is not before it", [](auto& p) { p.passes[1].source = 1; }},
      {"goes on from pass -2, which is not before it", [](auto& p) { p.passes[1].source = -2; }},
      {"runs layers 5..4", [](auto& p) { p.passes[1].last_layer = 4; }},
      {"runs 1001 rows of 1000", [](auto& p) { p.passes[1].num_rows = 1001; }},
      {"runs 999 rows of 1000", [](auto& p) { p.passes[0].num_rows = 999; }},
      {"runs 0 rows of 1000", [](auto& p) { p.passes[1].num_rows = 0; }},
      {"renumbers rows that were rotated before",
       [](auto& p) { p.passes[1].is_renumbered = true; }},
      {"enters at layer 5 of 12", [](auto& p) { p.passes[1].first_layer = 6; }},
      {"runs layers 5..12", [](auto& p) { p.passes[1].last_layer = 12; }},
      {"makes logits behind layer 10", [](auto& p) { p.passes[1].last_layer = 10; }},
      {"scores layer -1", [](auto& p) { p.passes[0].first_scored_layer = -1; }},
      {"scores layers for no selection",
       [](auto& p) {
         p.passes[1].is_selected = false;
         p.passes[1].num_rows = 1000;
       }},
      {"scores layers for no selection",
       [](auto& p) {
         p.passes[0].first_scored_layer = 5;  // the last layer alone
         p.passes[1].is_selected = false;
         p.passes[1].num_rows = 1000;
       }},
      {"makes no logits", [](auto& p) { p.passes[1].makes_logits = false; }},
      {"goes on behind the last layer",
       [](auto& p) {
         p.passes[0].makes_logits = true;
         p.passes[0].last_layer = 11;
       }},
      {"is selected behind a pass with logits",
       [](auto& p) {
         p.passes.push_back(p.passes[1]);
         p.passes[2].stores_kv = false;
       }},
      {"pass 1 is selected behind a pass with logits",
       [](auto& p) {
         p.passes[0].makes_logits = true;
         p.passes[0].last_layer = 11;
         p.passes[1].source = PrefillPass::kPrompt;
         p.passes[1].first_layer = 0;
       }},
      {"is stored by 0 passes", [](auto& p) { p.passes[1].stores_kv = false; }},
      {"is stored by 2 passes",
       [](auto& p) {
         p.passes.push_back(p.passes[1]);
         p.passes[1].makes_logits = false;
       }},
      {"has 100 rows for the 99 entries of layer 6",
       [](auto& p) { p.kv.segments[2].entries = 99; }},
      {"has 1000 rows for the 1001 entries of layer 2",
       [](auto& p) { p.kv.segments[1].entries = 1001; }},
      {"segments have 11 layers", [](auto& p) { p.kv.segments[2].num_layers = 5; }},
  };
  ASSERT_EQ(CheckPrefillPlan(Claa()), absl::OkStatus());
  for (const auto& [text, change] : cases) {
    PrefillPlan plan = Claa();
    change(plan);
    const absl::Status status = CheckPrefillPlan(plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace winnow
