#include "checkpoint/rope_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace winnow {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

absl::StatusOr<RopeConfig> Read(const Json& json) {
  // As read from a file, where 8 is an unsigned number.
  return ReadRopeConfig(ConfigFields("config.json", Json::parse(json.dump())),
                        /*max_context=*/4096);
}

TEST(RopeConfigTest, ReadsOlderAndNewerFiles) {
  const Json scaling = {{"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  Json older = scaling, newer = scaling;
  older["rope_type"] = newer["rope_type"] = "llama3";
  newer["rope_theta"] = 500000.0;
  for (const Json& json : {Json{{"rope_theta", 500000.0}, {"rope_scaling", older}},
                           Json{{"rope_parameters", newer}}}) {
    const auto rope = Read(json);
    ASSERT_TRUE(rope.ok()) << rope.status();
    EXPECT_EQ(rope->type, RopeConfig::Type::kLlama3);
    EXPECT_EQ(rope->theta, 500000.0);
    EXPECT_EQ(rope->factor, 8.0);
    EXPECT_EQ(rope->original_context, 8192);
  }
  EXPECT_EQ(Read(Json::object())->theta, 10000.0);
  EXPECT_EQ(Read({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}})->type,
            RopeConfig::Type::kLinear);
}

TEST(RopeConfigTest, YarnsAttentionFactorIsGivenOrFollows) {
  const auto factor = [](Json scaling) {
    scaling["rope_type"] = "yarn";
    scaling["factor"] = 4.0;
    return Read({{"rope_scaling", scaling}})->attention_factor;
  };
  EXPECT_EQ(factor({{"attention_factor", 0.75}}), 0.75);
  EXPECT_DOUBLE_EQ(factor(Json::object()), 0.1 * std::log(4.0) + 1.0);
  EXPECT_DOUBLE_EQ(factor({{"mscale", 1.0}, {"mscale_all_dim", 1.0}}), 1.0);
}

TEST(RopeConfigTest, RefusesWhatItDoesNotKnow) {
  const std::vector<std::pair<Json, std::string>> rows = {
      {{{"rope_type", "dynamic"}, {"factor", 2.0}}, "rope_type"},
      {{{"type", "longrope"}}, "type"},
      {{{"rope_type", "linear"}}, "'factor' is missing"},
      {{{"rope_type", "linear"}, {"factor", 0.0}}, "factor"},
      {{{"rope_type", "llama3"}, {"factor", 8.0}}, "original_max_position_embeddings"},
      {{{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}, "partial_rotary_factor"},
      {{{"full_attention", {{"rope_theta", 1e6}}}}, "full_attention"},
      {{{"sliding_attention", {{"rope_theta", 1e4}}}}, "sliding_attention"},
      {{{"rope_type", "llama3"},
        {"factor", 8.0},
        {"low_freq_factor", 4.0},
        {"high_freq_factor", 4.0},
        {"original_max_position_embeddings", 8192}},
       "must be above low_freq_factor"},
  };
  for (const auto& [scaling, text] : rows) {
    const absl::Status status = Read({{"rope_scaling", scaling}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << scaling;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), HasSubstr("config.json, rope_scaling"));
  }
}

TEST(RopeInverseFrequenciesTest, FallGeometricallyFromOne) {
  const std::vector<float> speeds = RopeInverseFrequencies({.theta = 10000.0}, 8);
  ASSERT_EQ(speeds.size(), 4u);
  for (int c = 0; c < 4; ++c) EXPECT_FLOAT_EQ(speeds[c], std::pow(10.0, -c));
}

TEST(RopeInverseFrequenciesTest, StretchedTypesKeepShortWavesAndSlowLongOnes) {
  const int head_dim = 64;
  const std::vector<float> plain = RopeInverseFrequencies({.theta = 500000.0}, head_dim);
  RopeConfig rope{.theta = 500000.0, .factor = 8.0, .original_context = 8192};
  for (const auto type : {RopeConfig::Type::kLlama3, RopeConfig::Type::kYarn}) {
    rope.type = type;
    const std::vector<float> speeds = RopeInverseFrequencies(rope, head_dim);
    EXPECT_FLOAT_EQ(speeds.front(), plain.front());
    EXPECT_FLOAT_EQ(speeds.back(), plain.back() / 8);
    for (size_t c = 0; c < speeds.size(); ++c) {
      EXPECT_LE(speeds[c], plain[c]);
      EXPECT_GE(speeds[c], plain[c] / 8.001f);
    }
  }
  rope.type = RopeConfig::Type::kLinear;
  const std::vector<float> linear = RopeInverseFrequencies(rope, head_dim);
  for (size_t c = 0; c < linear.size(); ++c) EXPECT_FLOAT_EQ(linear[c], plain[c] / 8);
}

}  // namespace
}  // namespace winnow
