#include "plan/selection_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<SelectionConfig> Resolve(const SelectionOverrides& overrides) {
  return ResolveSelectionConfig(DemoConfig(), overrides, DemoShape());
}

template <typename T>
void ExpectRefused(const absl::StatusOr<T>& result, const std::string& text) {
  ASSERT_FALSE(result.ok()) << "accepted; expected: " << text;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(text));
}

TEST(SelectionConfigTest, NoOverridesLeaveTheBase) { EXPECT_EQ(*Resolve({}), DemoConfig()); }

TEST(SelectionConfigTest, KeepRatioIsRoundedToMillionthsOnce) {
  const std::vector<std::pair<double, int64_t>> rows = {
      {0.1, 100'000},         {1.0, 1'000'000}, {0.123'456'4, 123'456},
      {0.123'456'6, 123'457}, {1e-6, 1},        {1e-12, 1}};
  for (const auto& [ratio, ppm] : rows)
    EXPECT_EQ(Resolve({.keep_ratio = ratio})->keep_ppm, ppm) << ratio;
}

TEST(SelectionConfigTest, RefusesKeepOutsideZeroToOne) {
  for (double ratio : {0.0, -0.1, 1.000'001, 2.0, std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    ExpectRefused(Resolve({.keep_ratio = ratio}), "keep_ratio must be in (0, 1]");
  }
  for (int64_t ppm : {int64_t{0}, int64_t{-1}, int64_t{1'000'001}}) {
    ExpectRefused(Resolve({.keep_ppm = ppm}), "keep_ppm must be in [1, 1000000]");
  }
}

TEST(SelectionConfigTest, AcceptsTheEndsOfEveryRange) {
  EXPECT_TRUE(Resolve({.uncompacted_layers = 0}).ok());
  EXPECT_TRUE(Resolve({.uncompacted_layers = 6}).ok());
  EXPECT_TRUE(Resolve({.aggregate_layers = 1}).ok());
  EXPECT_TRUE(Resolve({.aggregate_layers = 6}).ok());
  EXPECT_TRUE(Resolve({.selection_layer = 10}).ok());
  EXPECT_TRUE(Resolve({.window = 1}).ok());
  EXPECT_TRUE(Resolve({.pool_kernel = 1}).ok());
}

TEST(SelectionConfigTest, RefusesValuesBeyondTheEnds) {
  ExpectRefused(Resolve({.uncompacted_layers = -1}), "uncompacted_layers");
  ExpectRefused(Resolve({.uncompacted_layers = 7}), "uncompacted_layers must be in [0, 6], got 7");
  ExpectRefused(Resolve({.aggregate_layers = 0}), "aggregate_layers");
  ExpectRefused(Resolve({.aggregate_layers = 7}), "aggregate_layers must be in [1, 6], got 7");
  ExpectRefused(Resolve({.selection_layer = 11}), "selection_layer must be in [0, 10], got 11");
  ExpectRefused(Resolve({.selection_layer = -1}), "selection_layer");
  ExpectRefused(Resolve({.selection_layer = 2}), "aggregate_layers must be in [1, 3], got 4");
  ExpectRefused(Resolve({.window = 0}), "window must");
  ExpectRefused(Resolve({.window = int64_t{1} << 32}), "window must");  // would be 0 as an int
  ExpectRefused(Resolve({.window_offset = -1}), "window_offset");
  ExpectRefused(Resolve({.pool_kernel = 0}), "pool_kernel");
  ExpectRefused(Resolve({.pool_kernel = 8}), "pool_kernel must be odd, got 8");
  ExpectRefused(Resolve({.min_prompt_tokens = -1}), "min_prompt_tokens");
  ExpectRefused(Resolve({.min_kept_tokens = -1}), "min_kept_tokens");
  ExpectRefused(Resolve({.protected_prefix = -1}), "protected_prefix");
}

TEST(SelectionConfigTest, RefusesWhatIsNotBuilt) {
  for (const char* policy : {"fastkv", "snapkv", "CLAA", ""}) {
    ExpectRefused(Resolve({.policy = policy}), "supported: full, claa, uniform");
  }
  ExpectRefused(Resolve({.aggregate = "mean"}), "aggregate 'mean' is not built; expected 'max'");
  ExpectRefused(Resolve({.normalize = "zscore"}),
                "normalize 'zscore' is not built; expected 'none'");
}

TEST(SelectionConfigTest, SpansAreAddedToTheBasesAndMayNotBeReversed) {
  SelectionConfig base = DemoConfig();
  base.protected_spans = {{0, 3}};
  EXPECT_THAT(ResolveSelectionConfig(base, {.protected_spans = {{7, 7}, {9, 12}}}, DemoShape())
                  ->protected_spans,
              ElementsAre(PositionSpan{0, 3}, PositionSpan{7, 7}, PositionSpan{9, 12}));
  ExpectRefused(Resolve({.protected_spans = {{5, 4}}}), "protected span [5, 4)");
  ExpectRefused(Resolve({.protected_spans = {{-1, 4}}}), "protected span [-1, 4)");
}

TEST(SelectionConfigTest, PolicyFullWorksOnModelsTooShallowToPrune) {
  ModelShape shape = DemoShape();
  shape.num_layers = 1;
  EXPECT_TRUE(ResolveSelectionConfig(DemoConfig(), {.policy = "full"}, shape).ok());
  ExpectRefused(ResolveSelectionConfig(DemoConfig(), {}, shape), "selection_layer");
}

TEST(DefaultSelectionConfigTest, IsThePapersAt32LayersAndValidAtEveryDepth) {
  ModelShape shape = DemoShape();
  shape.num_layers = 32;
  EXPECT_EQ(DefaultSelectionConfig(shape).selection_layer, 15);
  for (shape.num_layers = 2; shape.num_layers <= 130; ++shape.num_layers) {
    const auto config = ResolveSelectionConfig(DefaultSelectionConfig(shape), {}, shape);
    EXPECT_TRUE(config.ok()) << shape.num_layers << ": " << config.status();
  }
}

TEST(SelectionJsonTest, ReadsTheDemoModelsProfile) {
  std::ifstream file(WINNOW_SOURCE_DIR "/models/demo/claa.json");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto overrides = ParseSelectionJson(text);
  ASSERT_TRUE(overrides.ok()) << overrides.status();
  const auto config =
      ResolveSelectionConfig(DefaultSelectionConfig(DemoShape()), *overrides, DemoShape());
  ASSERT_TRUE(config.ok()) << config.status();
  SelectionConfig expected = DemoConfig();
  expected.pool_kernel = 15;
  expected.min_prompt_tokens = 512;
  expected.min_kept_tokens = 64;
  EXPECT_EQ(*config, expected);
}

TEST(SelectionJsonTest, WritesWhatItReads) {
  SelectionConfig config = DemoConfig();
  config.window_offset = 3;
  config.protected_prefix = 11;
  config.keep_ppm = 54'321;
  const auto overrides = ParseSelectionJson(SelectionConfigToJson(config));
  ASSERT_TRUE(overrides.ok()) << overrides.status();
  EXPECT_EQ(*ResolveSelectionConfig(DefaultSelectionConfig(DemoShape()), *overrides, DemoShape()),
            config);
}

TEST(SelectionJsonTest, AKeepRatioMayBeAnInteger) {
  EXPECT_EQ(ParseSelectionJson(R"({"keep_ratio": 1})")->keep_ratio, 1.0);
}

TEST(SelectionJsonTest, SaysWhatIsWrong) {
  ExpectRefused(ParseSelectionJson(""), "not valid JSON");
  ExpectRefused(ParseSelectionJson("{"), "not valid JSON");
  ExpectRefused(ParseSelectionJson("[]"), "expected an object");
  ExpectRefused(ParseSelectionJson(R"({"windw": 8})"), "unknown key 'windw'");
  ExpectRefused(ParseSelectionJson(R"({"window": "8"})"), "window must be an integer, got \"8\"");
  ExpectRefused(ParseSelectionJson(R"({"window": 8.0})"), "window must be an integer");
  ExpectRefused(ParseSelectionJson(R"({"policy": 1})"), "policy must be a string");
  ExpectRefused(ParseSelectionJson(R"({"keep_ratio": "0.1"})"), "keep_ratio must be a number");
  ExpectRefused(ParseSelectionJson(R"({"keep_ppm": null})"), "keep_ppm must be an integer");
}

}  // namespace
}  // namespace winnow
