#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "client/cli/load_plan.h"
#include "client/cli/load_report.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LoadPlanTest, MixesAreValuesWithWeights) {
  const auto tokens = ParseTokenMix("512:3,8192:1,7");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_THAT(tokens->values, ElementsAre(512, 8192, 7));
  EXPECT_THAT(tokens->weights, ElementsAre(3, 1, 1));
  const auto keep = ParseKeepMix("full:1,0.1:0.5");
  ASSERT_TRUE(keep.ok()) << keep.status();
  EXPECT_THAT(keep->values, ElementsAre(1, 0.1));
  for (const char* bad : {"", "x", "0", "-5", "5:0", "5:-1", "5:x", "5:inf", "5,", "5:1:1"}) {
    const auto refused = ParseTokenMix(bad);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("TOKENS"));
  }
  for (const char* bad : {"0", "1.5", "-0.1", "nan", "all"}) {
    EXPECT_FALSE(ParseKeepMix(bad).ok()) << bad;
  }
}

TEST(LoadPlanTest, ArrivesAsOftenAsAskedAndByTheWeights) {
  const LoadOptions options{.rate = 50,
                            .num_requests = 20000,
                            .prompt_tokens = *ParseTokenMix("100:3,900:1"),
                            .keep_ratios = *ParseKeepMix("full:1,0.1:1"),
                            .seed = 5};
  const std::vector<PlannedRequest> plan = PlanLoad(options);
  ASSERT_EQ(plan.size(), 20000u);
  // A Poisson process: gaps have the mean 1/rate and as much for a deviation.
  double sum = 0, squares = 0, tokens = 0, pruned = 0;
  for (size_t i = 1; i < plan.size(); ++i) {
    const double gap = absl::ToDoubleSeconds(plan[i].at - plan[i - 1].at);
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  for (const PlannedRequest& request : plan) {
    tokens += static_cast<double>(request.prompt_tokens);
    pruned += request.keep_ratio < 1;
  }
  const double n = 19999, mean = sum / n;
  EXPECT_NEAR(mean, 0.02, 0.02 * 0.04);
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 0.02, 0.02 * 0.06);
  EXPECT_NEAR(tokens / 20000, 300, 15);
  EXPECT_NEAR(pruned / 20000, 0.5, 0.02);
  const std::vector<PlannedRequest> again = PlanLoad(options);
  EXPECT_EQ(again[777].at, plan[777].at);
  EXPECT_EQ(again[777].seed, plan[777].seed);
}

TEST(LoadPlanTest, OnlyAPoissonProcessSpreadsItsRequests) {
  LoadOptions options{.rate = 50,
                      .num_requests = 40,
                      .prompt_tokens = *ParseTokenMix("100:3,900:1"),
                      .keep_ratios = *ParseKeepMix("full"),
                      .seed = 5};
  const std::vector<PlannedRequest> poisson = PlanLoad(options);
  for (const char* kind : {"at-once", "in-turn"}) {
    options.arrivals = *ParseArrivals(kind);
    const std::vector<PlannedRequest> plan = PlanLoad(options);
    ASSERT_EQ(plan.size(), 40u);
    std::vector<uint64_t> seeds;
    for (size_t i = 0; i < plan.size(); ++i) {
      EXPECT_EQ(plan[i].at, absl::ZeroDuration());
      seeds.push_back(plan[i].seed);
    }
    std::sort(seeds.begin(), seeds.end());
    EXPECT_EQ(std::unique(seeds.begin(), seeds.end()), seeds.end()) << "two equal prompts";
  }
  EXPECT_EQ(*ParseArrivals("poisson"), Arrivals::kPoisson);
  EXPECT_GT(poisson.back().at, absl::ZeroDuration());
  EXPECT_EQ(ParseArrivals("all").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LoadReportTest, PercentilesAreNearestRanks) {
  std::vector<double> values(100);
  std::iota(values.rbegin(), values.rend(), 1);  // 100 … 1
  EXPECT_EQ(Percentile(values, 0.5), 50);
  EXPECT_EQ(Percentile(values, 0.99), 99);
  EXPECT_EQ(Percentile(values, 1), 100);
  EXPECT_EQ(Percentile(values, 0), 1);
  EXPECT_EQ(Percentile({7}, 0.99), 7);
  EXPECT_EQ(Percentile({}, 0.5), 0);
}

LoadSample Ok(double ttft, double gap, int64_t prompt_tokens = 100) {
  return {.prompt_tokens = prompt_tokens,
          .ttft_s = ttft,
          .second_token_s = ttft + gap,
          .total_s = ttft + 3 * gap,
          .inter_token_s = {gap, gap},
          .completion_tokens = 4};
}

TEST(LoadReportTest, CountsEverythingOnce) {
  LoadReport report({.ttft_s = 0.5, .inter_token_s = 0.02});
  report.Add(Ok(0.1, 0.01));
  report.Add(Ok(0.6, 0.01));        // its first token is late
  report.Add(Ok(0.1, 0.03, 5000));  // its tokens are slow
  report.Add({.prompt_tokens = 100, .status = absl::UnavailableError("")});
  report.Add({.prompt_tokens = 100, .status = absl::UnavailableError("")});
  report.Add({.prompt_tokens = 100, .status = absl::ResourceExhaustedError("")});
  EXPECT_EQ(report.num_ok(), 3);
  EXPECT_EQ(report.num_failed(), 3);
  const auto json = nlohmann::json::parse(report.ToJson(2.0));
  EXPECT_EQ(json["requests"], 6);
  EXPECT_EQ(json["ok"], 3);
  EXPECT_EQ(json["errors"], nlohmann::json({{"UNAVAILABLE", 2}, {"RESOURCE_EXHAUSTED", 1}}));
  EXPECT_EQ(json["requests_per_s"], 1.5);
  EXPECT_EQ(json["completion_tokens_per_s"], 6);
  EXPECT_EQ(json["prompt_tokens_per_s"], 2600);
  EXPECT_EQ(json["goodput_per_s"], 0.5);
  EXPECT_NEAR(json["goodput_share"].get<double>(), 1.0 / 6, 1e-9);
  EXPECT_EQ(json["ttft_ms"]["count"], 3);
  EXPECT_EQ(json["ttft_ms"]["p50"], 100);
  EXPECT_EQ(json["ttft_ms"]["max"], 600);
  EXPECT_EQ(json["inter_token_ms"]["count"], 6);
  EXPECT_EQ(json["ttft_ms_by_prompt_tokens"]["5000"]["max"], 100);
  EXPECT_THAT(report.ToText(2.0), HasSubstr("2 failed with UNAVAILABLE"));
}

TEST(LoadReportTest, TellsEachRequestInTheOrderInWhichTheyWereDue) {
  LoadReport report({});
  LoadSample second = Ok(0.25, 0.01, 5000), first = Ok(0.1, 0.02);
  second.due_s = 0.5;
  second.keep_ratio = 0.1;
  second.stages.queue = 0.125;
  report.Add(second);
  report.Add(first);
  report.Add({.prompt_tokens = 7, .due_s = 0.25, .status = absl::UnavailableError("full")});
  EXPECT_FALSE(nlohmann::json::parse(report.ToJson(1)).contains("each"));
  const auto each = nlohmann::json::parse(report.ToJson(1, /*with_each=*/true))["each"];
  ASSERT_EQ(each.size(), 3u);
  EXPECT_EQ(each[0]["ttft_ms"], 100);
  EXPECT_EQ(each[0]["second_token_ms"], 120);
  EXPECT_EQ(each[0]["inter_token_ms"], 20);
  EXPECT_EQ(each[1], nlohmann::json({{"due_s", 0.25},
                                     {"prompt_tokens", 7},
                                     {"keep_ratio", 1},
                                     {"status", "UNAVAILABLE"},
                                     {"message", "full"}}));
  EXPECT_EQ(each[2]["due_s"], 0.5);
  EXPECT_EQ(each[2]["keep_ratio"], 0.1);
  EXPECT_EQ(each[2]["stages"]["queue"], 0.125);
}

TEST(LoadReportTest, NothingIsAReportToo) {
  const LoadReport report({});
  EXPECT_EQ(nlohmann::json::parse(report.ToJson(0))["requests"], 0);
  EXPECT_THAT(report.ToText(0), HasSubstr("0 requests"));
}

}  // namespace
}  // namespace winnow
