#include "engine/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "engine/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kDraws = 20'000;

// Logits whose softmax at temperature 1 is `probabilities`.
std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::map<int32_t, int> Draw(const std::vector<float>& logits, const SamplingParams& params,
                            int draws = kDraws) {
  std::map<int32_t, int> counts;
  for (int index = 0; index < draws; ++index) {
    const auto token = SampleToken(logits, params, index);
    EXPECT_TRUE(token.ok()) << token.status();
    ++counts[token.value_or(-1)];
  }
  return counts;
}

std::set<int32_t> Support(const std::vector<float>& logits, const SamplingParams& params) {
  std::set<int32_t> support;
  for (const auto& [token, count] : Draw(logits, params, 2000)) support.insert(token);
  return support;
}

// Counts are binomial: five standard deviations are passed once in two million draws of a right
// sampler.
void ExpectDistribution(const std::map<int32_t, int>& counts,
                        const std::vector<double>& probabilities) {
  for (size_t token = 0; token < probabilities.size(); ++token) {
    const double p = probabilities[token];
    const auto it = counts.find(static_cast<int32_t>(token));
    const int count = it == counts.end() ? 0 : it->second;
    EXPECT_NEAR(count, kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << "token " << token;
  }
}

// The published vectors of Random123 (kat_vectors, philox4x32 with 10 rounds).
TEST(PhiloxTest, AgreesWithTheKnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(PhiloxTest, UniformNumbersFillTheUnitInterval) {
  std::vector<int> buckets(10, 0);
  for (int i = 0; i < kDraws; ++i) {
    const double u = PhiloxUniform(123, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++buckets[static_cast<int>(u * 10)];
  }
  for (int count : buckets) EXPECT_NEAR(count, kDraws * 0.1, 5 * std::sqrt(kDraws * 0.1 * 0.9));
}

TEST(PhiloxTest, UsesAll64BitsOfSeedAndIndex) {
  const double base = PhiloxUniform(1, 1);
  EXPECT_NE(PhiloxUniform(1 | uint64_t{1} << 32, 1), base);
  EXPECT_NE(PhiloxUniform(1, 1 | uint64_t{1} << 32), base);
}

TEST(SamplerTest, GreedyTakesTheHighestAndTheLowerIdOfEquals) {
  const SamplingParams greedy{.temperature = 0.0, .top_k = 3, .top_p = 0.5, .seed = 9};
  EXPECT_EQ(*SampleToken({1.0f, 3.0f, 2.0f}, greedy, 0), 1);
  EXPECT_EQ(*SampleToken({1.0f, 3.0f, 3.0f}, greedy, 5), 1);
  EXPECT_EQ(*SampleToken({-kInfinity, -5.0f, -4.0f}, greedy, 0), 2);
}

TEST(SamplerTest, DrawsTheSoftmax) {
  const std::vector<double> p = {0.05, 0.4, 0.2, 0.3, 0.05};
  ExpectDistribution(Draw(LogitsOf(p), {.temperature = 1.0, .seed = 1}), p);
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 1.5f};
  for (double temperature : {0.3, 0.8, 2.5}) {
    std::vector<double> p;
    double sum = 0.0;
    for (float logit : logits) sum += std::exp(logit / temperature);
    for (float logit : logits) p.push_back(std::exp(logit / temperature) / sum);
    ExpectDistribution(Draw(logits, {.temperature = temperature, .seed = 2}), p);
  }
  EXPECT_THAT(Support(logits, {.temperature = 1e-6, .seed = 3}), ElementsAre(1));
  EXPECT_THAT(Support(logits, {.temperature = 5e-324, .seed = 3}), ElementsAre(1));
}

TEST(SamplerTest, CutsRenormaliseWhatIsLeft) {
  const std::vector<float> logits = LogitsOf({0.1, 0.4, 0.2, 0.3});
  ExpectDistribution(Draw(logits, {.temperature = 1.0, .top_k = 2, .seed = 4}),
                     {0.0, 4.0 / 7, 0.0, 3.0 / 7});
  ExpectDistribution(Draw(logits, {.temperature = 1.0, .top_p = 0.85, .seed = 5}),
                     {0.0, 4.0 / 9, 2.0 / 9, 3.0 / 9});
}

TEST(SamplerTest, ADrawDependsOnSeedAndIndexOnly) {
  const std::vector<float> logits(50, 1.0f);
  const auto draw = [&](uint64_t seed, uint64_t index) {
    return *SampleToken(logits, {.temperature = 1.0, .seed = seed}, index);
  };
  std::vector<int32_t> forwards, backwards, other_seed;
  for (int i = 0; i < 40; ++i) forwards.push_back(draw(7, i));
  for (int i = 39; i >= 0; --i) backwards.insert(backwards.begin(), draw(7, i));
  for (int i = 0; i < 40; ++i) other_seed.push_back(draw(8, i));
  EXPECT_EQ(forwards, backwards);
  EXPECT_NE(forwards, other_seed);
  EXPECT_GT(std::set<int32_t>(forwards.begin(), forwards.end()).size(), 10u);  // indexes differ too
}

TEST(SamplerTest, TopKKeepsTheHighestAndTheLowerIdsOfEquals) {
  const std::vector<float> logits = {1.0f, 2.0f, 2.0f, 2.0f, 0.0f};
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 1}), ElementsAre(1));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 2}), ElementsAre(1, 2));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 4}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 5}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 1000}), ElementsAre(0, 1, 2, 3, 4));
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = LogitsOf({0.125, 0.5, 0.25, 0.125});
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 1e-9}), ElementsAre(1));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.49}), ElementsAre(1));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.51}), ElementsAre(1, 2));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.74}), ElementsAre(1, 2));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.76}), ElementsAre(0, 1, 2));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.9}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 1.0}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Support({3.0f, 3.0f}, {.temperature = 1.0, .top_p = 0.5}),
              ElementsAre(0));  // reached exactly
}

TEST(SamplerTest, TopPIsMeasuredAfterTopK) {
  const std::vector<float> logits = LogitsOf({0.4, 0.3, 0.2, 0.1});
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_p = 0.5}), ElementsAre(0, 1));
  EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = 2, .top_p = 0.5}),
              ElementsAre(0));  // 4/7
}

TEST(SamplerTest, ImpossibleTokensAreNeverDrawn) {
  const std::vector<float> logits = {-kInfinity, 0.0f, -kInfinity, 0.0f, -kInfinity};
  for (int top_k : {0, 5}) {
    EXPECT_THAT(Support(logits, {.temperature = 1.0, .top_k = top_k, .seed = 11}),
                ElementsAre(1, 3))
        << top_k;
  }
}

TEST(SamplerTest, LogitsThatAreNoNumbersAreAnError) {
  const std::vector<std::vector<float>> bad = {{1, kNan, 2},
                                               {kNan, 1, 2},
                                               {1, 2, kNan},
                                               {1, kInfinity, 2},
                                               {kInfinity, kNan},
                                               {-kInfinity, -kInfinity},
                                               {kNan},
                                               {}};
  for (size_t i = 0; i < bad.size(); ++i) {
    for (double temperature : {0.0, 1.0}) {
      for (int top_k : {0, 1}) {
        const auto token = SampleToken(bad[i], {.temperature = temperature, .top_k = top_k}, 0);
        EXPECT_EQ(token.status().code(), absl::StatusCode::kInternal)
            << "row " << i << ", T " << temperature;
      }
    }
  }
}

}  // namespace
}  // namespace winnow
