#include "wire/kv_plan_proto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "plan/wire_version.h"
#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

KvPlan Plan(const Policy& policy, int64_t n) {
  SelectionConfig config = DemoConfig();
  config.policy = &policy;
  return MakePrefillPlan(DemoShape(), config, n).kv;
}

// Renumbered rows of a restart: positions 0..C−1, and no list of them.
KvPlan Restarted() {
  KvPlan plan = EmptyKvPlan(DemoShape(), 4096);
  plan.segments = {{12, KvForm::kAll, 400}};
  plan.next_position = 400;
  return plan;
}

// Two selections, each with lists.
KvPlan Staged() {
  KvPlan plan = EmptyKvPlan(DemoShape(), 4096);
  plan.segments = {
      {3, KvForm::kAll, 4096}, {4, KvForm::kSelected, 900}, {5, KvForm::kSelected, 400}};
  plan.tail_begin = 4000;
  return plan;
}

// As a worker of wire version 2 sends the plan.
v1::KvPlan WithoutSegments(v1::KvPlan message) {
  message.clear_segments();
  message.clear_next_position();
  message.clear_tail_begin();
  return message;
}

TEST(KvPlanProtoTest, PlansSurviveTheRoundTrip) {
  for (const Policy* policy : Policies()) {
    for (int64_t n : {1, 11, 12, 13, 64, 320, 321, 511, 512, 4096, 32768}) {
      const KvPlan plan = Plan(*policy, n);
      const auto back = FromProto(ToProto(plan));
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(*back, plan);
    }
  }
  EXPECT_EQ(*FromProto(ToProto(Restarted())), Restarted());
  EXPECT_EQ(*FromProto(ToProto(Staged())), Staged());
}

TEST(KvPlanProtoTest, WhatVersion2CanSayIsReadWithoutSegments) {
  for (const Policy* policy : {&kFullPolicy, &kClaaPolicy}) {
    for (int m : {0, 2, 6}) {
      for (int64_t n = 1; n < 40; ++n) {
        SelectionConfig config = DemoConfig();
        config.policy = policy;
        config.uncompacted_layers = m;
        const KvPlan plan = MakePrefillPlan(DemoShape(), config, n).kv;
        const auto back = FromProto(WithoutSegments(ToProto(plan)));
        ASSERT_TRUE(back.ok()) << back.status() << " " << n;
        EXPECT_EQ(*back, plan) << policy->name << " " << m << " " << n;
      }
    }
  }
}

TEST(KvPlanProtoTest, APlanThatVersion2CannotSayNeedsTheNewest) {
  EXPECT_EQ(OldestWireVersionFor(Plan(kFullPolicy, 4096)), 2u);
  EXPECT_EQ(OldestWireVersionFor(Plan(kClaaPolicy, 4096)), 2u);
  for (const KvPlan& plan : {Plan(kUniformPolicy, 4096), Restarted(), Staged()}) {
    EXPECT_EQ(OldestWireVersionFor(plan), 3u);
    EXPECT_FALSE(FromProto(WithoutSegments(ToProto(plan))).ok());  // refused, never approximated
  }
}

void ExpectRefused(const v1::KvPlan& message, const std::string& text) {
  const auto result = FromProto(message);
  ASSERT_FALSE(result.ok()) << "accepted; expected: " << text;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
}

TEST(KvPlanProtoTest, RefusesPlansThatContradictThemselves) {
  const std::vector<std::pair<std::string, std::function<void(v1::KvPlan&)>>> cases = {
      {"num_prompt_tokens", [](auto& p) { p.set_num_prompt_tokens(0); }},
      {"num_prompt_tokens", [](auto& p) { p.set_num_prompt_tokens(int64_t{1} << 40); }},
      {"num_layers", [](auto& p) { p.set_num_layers(0); }},
      {"num_kv_heads", [](auto& p) { p.set_num_kv_heads(-4); }},
      {"head_dim", [](auto& p) { p.set_head_dim(0); }},
      {"tail_begin must be in [0, 4096], got 4097", [](auto& p) { p.set_tail_begin(4097); }},
      {"next_position", [](auto& p) { p.set_next_position(4095); }},
      {"next_position", [](auto& p) { p.set_next_position(int64_t{1} << 31); }},
      {"form 0 is unknown", [](auto& p) { p.mutable_segments(0)->clear_form(); }},
      {"segments.num_layers", [](auto& p) { p.mutable_segments(0)->set_num_layers(0); }},
      {"layers in all must be in [1, 12], got 13",
       [](auto& p) { p.mutable_segments(2)->set_num_layers(7); }},
      {"layers in all must be in [12, 12], got 11",
       [](auto& p) { p.mutable_segments(2)->set_num_layers(5); }},
      {"entries must be in [8, 4096], got 4097",
       [](auto& p) { p.mutable_segments(1)->set_entries(4097); }},
      {"entries must be in [8, 4096], got 7",
       [](auto& p) { p.mutable_segments(2)->set_entries(7); }},
      {"do not fit 64 bits",
       [](auto& p) {
         p.set_num_prompt_tokens(1 << 30);
         p.set_num_layers(1 << 15);
         p.set_num_kv_heads(1 << 15);
         p.set_head_dim(1 << 15);
       }},
  };
  for (const auto& [text, change] : cases) {
    v1::KvPlan message = ToProto(Plan(kClaaPolicy, 4096));
    change(message);
    ExpectRefused(message, text);
  }
}

TEST(KvPlanProtoTest, RefusesPlansOfVersion2ThatContradictThemselves) {
  const v1::KvPlan pruned = WithoutSegments(ToProto(Plan(kClaaPolicy, 4096)));
  const v1::KvPlan plain = WithoutSegments(ToProto(Plan(kFullPolicy, 100)));
  const std::vector<std::tuple<std::string, v1::KvPlan, std::function<void(v1::KvPlan&)>>> cases = {
      {"num_kept (nothing pruned)", plain, [](auto& p) { p.set_num_kept(99); }},
      {"window_begin (nothing pruned)", plain, [](auto& p) { p.set_window_begin(1); }},
      {"pivot_layer (nothing pruned)", plain, [](auto& p) { p.set_pivot_layer(5); }},
      {"first_compacted_layer (nothing pruned)", plain,
       [](auto& p) { p.set_first_compacted_layer(2); }},
      {"first_scored_layer (nothing pruned)", plain, [](auto& p) { p.set_first_scored_layer(2); }},
      {"first_aggregated_layer (nothing pruned)", plain,
       [](auto& p) { p.set_first_aggregated_layer(2); }},
      {"num_kept must be in [9, 4095], got 4096", pruned, [](auto& p) { p.set_num_kept(4096); }},
      {"num_kept must be in [9, 4095], got 8", pruned, [](auto& p) { p.set_num_kept(8); }},
      {"window_begin", pruned, [](auto& p) { p.set_window_begin(4096); }},
      {"window_begin", pruned, [](auto& p) { p.set_window_begin(0); }},
      {"pivot_layer", pruned, [](auto& p) { p.set_pivot_layer(11); }},
      {"first_compacted_layer", pruned, [](auto& p) { p.set_first_compacted_layer(7); }},
      {"first_aggregated_layer", pruned, [](auto& p) { p.set_first_aggregated_layer(-1); }},
      {"first_scored_layer", pruned, [](auto& p) { p.set_first_scored_layer(4); }},
  };
  for (const auto& [text, message, change] : cases) {
    v1::KvPlan changed = message;
    change(changed);
    ExpectRefused(changed, text);
  }
}

}  // namespace
}  // namespace winnow
