#include "wire/plan_proto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SelectionConfig Config() {
  SelectionConfig config;
  config.window = 9;
  config.window_offset = 3;
  config.pool_kernel = 15;
  config.aggregate_layers = 2;
  config.uncompacted_layers = 1;
  config.selection_layer = 5;
  config.keep_ppm = 123'456;
  config.min_prompt_tokens = 512;
  config.min_kept_tokens = 64;
  config.protected_prefix = 4;
  config.protected_spans = {{10, 20}, {30, 30}};
  return config;
}

template <typename T>
void ExpectRefused(const absl::StatusOr<T>& result, const std::string& text) {
  ASSERT_FALSE(result.ok()) << "accepted; expected: " << text;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
}

TEST(SelectionProtoTest, ConfigSurvivesTheRoundTrip) {
  EXPECT_EQ(*FromProto(ToProto(Config()), DemoShape()), Config());
  EXPECT_EQ(*FromProto(ToProto(Config())), Config());
  SelectionConfig full;
  full.policy = &kFullPolicy;
  EXPECT_EQ(*FromProto(ToProto(full), DemoShape()), full);
}

TEST(SelectionProtoTest, RefusesAConfigOfNothing) {
  ExpectRefused(FromProto(v1::SelectionConfig()), "policy ''");
}

TEST(SelectionProtoTest, RefusesFieldsOutOfRange) {
  const std::vector<std::pair<std::string, std::function<void(v1::SelectionConfig&)>>> cases = {
      {"policy 'oracle'", [](auto& c) { c.set_policy("oracle"); }},
      {"window must", [](auto& c) { c.set_window(0); }},
      {"window_offset", [](auto& c) { c.set_window_offset(-1); }},
      {"pool_kernel must be odd", [](auto& c) { c.set_pool_kernel(4); }},
      {"aggregate_layers", [](auto& c) { c.set_aggregate_layers(7); }},
      {"uncompacted_layers", [](auto& c) { c.set_uncompacted_layers(7); }},
      {"keep_ppm", [](auto& c) { c.set_keep_ppm(0); }},
      {"keep_ppm", [](auto& c) { c.set_keep_ppm(1'000'001); }},
      {"min_prompt_tokens", [](auto& c) { c.set_min_prompt_tokens(-1); }},
      {"protected span", [](auto& c) { c.mutable_protected_spans(0)->set_end(9); }},
  };
  for (const auto& [text, change] : cases) {
    v1::SelectionConfig proto = ToProto(Config());
    change(proto);
    ExpectRefused(FromProto(proto), text);
  }
}

TEST(SelectionProtoTest, OnlyAShapeShowsThatTheSelectionLayerIsTooDeep) {
  v1::SelectionConfig proto = ToProto(Config());
  proto.set_selection_layer(11);
  EXPECT_TRUE(FromProto(proto).ok());
  ExpectRefused(FromProto(proto, DemoShape()), "selection_layer must be in [0, 10], got 11");
}

TEST(SelectionProtoTest, OptionsSetOnlyWhatTheRequestSet) {
  const SelectionOverrides none = FromProto(v1::SelectionOptions());
  EXPECT_FALSE(none.policy || none.keep_ratio || none.min_prompt_tokens || none.min_kept_tokens ||
               none.keep_ppm);
  EXPECT_TRUE(none.protected_spans.empty());

  v1::SelectionOptions options;
  options.set_policy("full");
  options.set_keep_ratio(0.25);
  options.set_min_prompt_tokens(0);  // set, though it is proto's default
  options.set_min_kept_tokens(7);
  *options.add_protected_spans() = ToProto(PositionSpan{1, 4});
  const SelectionOverrides all = FromProto(options);
  EXPECT_EQ(all.policy, "full");
  EXPECT_EQ(all.keep_ratio, 0.25);
  EXPECT_EQ(all.min_prompt_tokens, 0);
  EXPECT_EQ(all.min_kept_tokens, 7);
  EXPECT_THAT(all.protected_spans, ElementsAre(PositionSpan{1, 4}));
}

TEST(LedgerProtoTest, LedgersSurviveTheRoundTrip) {
  const Ledger ledger = MakeLedger(MakePrefillPlan(DemoShape(), Config(), 4096), 2);
  EXPECT_EQ(FromProto(ToProto(ledger)), ledger);
  EXPECT_EQ(FromProto(v1::Ledger()), Ledger());
}

TEST(StageTimesProtoTest, EveryStageKeepsItsOwnValue) {
  const StageTimes times{.tokenize = 1,
                         .admit = 2,
                         .dispatch = 3,
                         .queue = 4,
                         .reserve_wait = 5,
                         .full_layers = 6,
                         .score = 7,
                         .allreduce = 8,
                         .select = 9,
                         .pruned_layers = 10,
                         .head = 11,
                         .relay = 12};
  const v1::StageTimes proto = ToProto(times);
  EXPECT_EQ(proto.reserve_wait(), 5);
  const StageTimes back = FromProto(proto);
  EXPECT_THAT((std::vector<double>{back.tokenize, back.admit, back.dispatch, back.queue,
                                   back.reserve_wait, back.full_layers, back.score, back.allreduce,
                                   back.select, back.pruned_layers, back.head, back.relay}),
              ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
}

TEST(SamplingProtoTest, ParametersSurviveTheRoundTrip) {
  const SamplingParams params{.temperature = 0.7,
                              .top_k = 40,
                              .top_p = 0.9,
                              .seed = 0xFFFF'FFFF'FFFF'FFFF,
                              .max_tokens = 17,
                              .stop_token_ids = {4091, 4094}};
  EXPECT_EQ(*FromProto(ToProto(params)), params);
  EXPECT_EQ(*FromProto(ToProto(SamplingParams())), SamplingParams());
}

TEST(SamplingProtoTest, RefusesValuesOutOfRange) {
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<std::string, std::function<void(v1::ResolvedSampling&)>>> cases = {
      {"temperature", [](auto& s) { s.set_temperature(-0.1); }},
      {"temperature", [&](auto& s) { s.set_temperature(nan); }},
      {"temperature", [&](auto& s) { s.set_temperature(inf); }},
      {"top_p", [](auto& s) { s.set_top_p(0); }},
      {"top_p", [](auto& s) { s.set_top_p(1.01); }},
      {"top_p", [&](auto& s) { s.set_top_p(nan); }},
      {"top_k", [](auto& s) { s.set_top_k(-1); }},
      {"max_tokens", [](auto& s) { s.set_max_tokens(0); }},
      {"stop_token_ids", [](auto& s) { s.add_stop_token_ids(-1); }},
  };
  for (const auto& [text, change] : cases) {
    v1::ResolvedSampling proto = ToProto(SamplingParams());
    change(proto);
    ExpectRefused(FromProto(proto), text);
  }
}

TEST(PositionDeltasTest, CodeTheFirstAsItIsAndTheRestAsDifferences) {
  google::protobuf::RepeatedField<uint32_t> deltas;
  EncodePositionDeltas({0, 1, 5, 2'147'483'647}, &deltas);
  EXPECT_THAT(deltas, ElementsAre(0, 1, 4, 2'147'483'642));
  EXPECT_THAT(*DecodePositionDeltas(deltas), ElementsAre(0, 1, 5, 2'147'483'647));
  EncodePositionDeltas({}, &deltas);
  EXPECT_TRUE(DecodePositionDeltas(deltas)->empty());
}

TEST(PositionDeltasTest, RefuseRepeatsAndOverflow) {
  google::protobuf::RepeatedField<uint32_t> deltas;
  deltas.Add(3);
  deltas.Add(0);
  ExpectRefused(DecodePositionDeltas(deltas), "entry 1 = 0");
  deltas.Set(1, 2'147'483'645);
  ExpectRefused(DecodePositionDeltas(deltas), "entry 1 = 2147483645");
  deltas.Set(0, 0xFFFF'FFFF);
  ExpectRefused(DecodePositionDeltas(deltas), "entry 0 = 4294967295");
}

}  // namespace
}  // namespace winnow
