#include "kernels/select_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/kernels/select_tokens_cases.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kPoison = -77;

struct Selection {
  std::vector<int32_t> positions;
  float nan = 0.0f;
};

// By repeatedly taking the best of what is left: the definition.
std::vector<int32_t> Expected(const SelectTokensCase& c, const float* scores) {
  std::vector<bool> kept(c.num_tokens, false);
  std::fill(kept.begin() + c.window_begin, kept.end(), true);
  for (size_t s = 0; s < c.spans.size(); s += 2) {
    std::fill(kept.begin() + c.spans[s], kept.begin() + c.spans[s + 1], true);
  }
  while (std::count(kept.begin(), kept.end(), true) < c.num_kept) {
    int64_t best = -1;
    for (int64_t j = 0; j < c.window_begin; ++j) {
      if (!kept[j] && (best < 0 || scores[j] > scores[best])) best = j;
    }
    kept[best] = true;
  }
  std::vector<int32_t> positions;
  for (int64_t j = 0; j < c.num_tokens; ++j) {
    if (kept[j]) positions.push_back(static_cast<int32_t>(j));
  }
  return positions;
}

struct Implementation {
  const char* name;
  void (*select)(const SelectTokensParams&);
  void (*max)(const MaxScoresParams&);
};
class SelectTokensTest : public ::testing::TestWithParam<Implementation> {
 protected:
  static Selection Select(const SelectTokensCase& c, const std::vector<float>& scores) {
    Selection selection;
    selection.positions.assign(c.rows * c.num_kept + 1, kPoison);  // a guard behind the end
    GetParam().select({.scores = scores.data(),
                       .spans = c.spans.data(),
                       .positions = selection.positions.data(),
                       .nan = &selection.nan,
                       .rows = c.rows,
                       .window_begin = c.window_begin,
                       .num_tokens = c.num_tokens,
                       .num_kept = c.num_kept,
                       .num_spans = static_cast<int>(c.spans.size() / 2)});
    EXPECT_EQ(selection.positions.back(), kPoison);
    selection.positions.pop_back();
    return selection;
  }

  static void Check(const SelectTokensCase& c, const std::vector<float>& scores) {
    const Selection got = Select(c, scores);
    EXPECT_EQ(got.nan, 0.0f);
    for (int64_t row = 0; row < c.rows; ++row) {
      const std::vector<int32_t> positions(got.positions.begin() + row * c.num_kept,
                                           got.positions.begin() + (row + 1) * c.num_kept);
      ASSERT_EQ(positions, Expected(c, scores.data() + row * c.window_begin)) << "row " << row;
    }
  }
};

TEST_P(SelectTokensTest, KeepsTheBest) {
  std::mt19937 random(1);
  std::normal_distribution<float> values(0.0f, 1.0f);
  for (const SelectTokensCase& c : SelectTokensTestCases()) {
    std::vector<float> scores(c.rows * c.window_begin);
    for (float& score : scores) score = values(random);
    Check(c, scores);
  }
}

// Few distinct values, so that the cut falls among equals.
TEST_P(SelectTokensTest, BreaksTiesByLowerPosition) {
  std::mt19937 random(2);
  for (const SelectTokensCase& c : SelectTokensTestCases()) {
    for (const int distinct : {1, 2, 5}) {
      std::vector<float> scores(c.rows * c.window_begin);
      for (float& score : scores) score = static_cast<float>(random() % distinct) - 1.0f;
      Check(c, scores);
    }
  }
}

TEST_P(SelectTokensTest, MinusZeroEqualsZero) {
  EXPECT_EQ(Select({1, 4, 5, 3}, {-0.0f, 0.0f, -0.0f, 0.0f}).positions,
            (std::vector<int32_t>{0, 1, 4}));
  EXPECT_EQ(Select({1, 4, 5, 3}, {0.0f, -0.0f, 0.0f, -0.0f}).positions,
            (std::vector<int32_t>{0, 1, 4}));
}

TEST_P(SelectTokensTest, InfinitiesAndSubnormalsAreOrderedNotErrors) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> scores = {-kInfinity, 0.0f, tiny, kInfinity, -tiny, kInfinity};
  const Selection got = Select({1, 6, 7, 5}, scores);
  EXPECT_EQ(got.positions, (std::vector<int32_t>{1, 2, 3, 5, 6}));
  EXPECT_EQ(got.nan, 0.0f);
}

TEST_P(SelectTokensTest, NanSetsTheFlagAndLeavesOtherRowsRight) {
  // 0 is protected. A GPU takes several blocks for the longer rows.
  for (const auto& [n, at] :
       {std::pair{100, 0}, {100, 17}, {100, 99}, {20000, 0}, {20000, 19999}}) {
    const SelectTokensCase c{3, n, n + 4, 20, {0, 2}};
    std::vector<float> scores(3 * n);
    for (int64_t i = 0; i < 3 * n; ++i) scores[i] = static_cast<float>((i * 37) % 101);
    scores[n + at] = NAN;
    const Selection got = Select(c, scores);
    EXPECT_EQ(got.nan, 1.0f);
    for (const int64_t row : {0, 2}) {
      const std::vector<int32_t> positions(got.positions.begin() + row * 20,
                                           got.positions.begin() + (row + 1) * 20);
      EXPECT_EQ(positions, Expected(c, scores.data() + row * n));
    }
    for (int64_t i = 20; i < 40; ++i) {
      EXPECT_GE(got.positions[i], 0);
      EXPECT_LT(got.positions[i], n + 4);
    }
  }
}

TEST_P(SelectTokensTest, FlagIsOnlyEverSet) {
  float nan = 1.0f;
  std::vector<float> scores = {1.0f}, best = {-kInfinity};
  std::vector<int32_t> positions(2);
  GetParam().max(
      {.scores = scores.data(), .best = best.data(), .nan = &nan, .rows = 1, .count = 1});
  GetParam().select({.scores = scores.data(),
                     .positions = positions.data(),
                     .nan = &nan,
                     .rows = 1,
                     .window_begin = 1,
                     .num_tokens = 2,
                     .num_kept = 2});
  EXPECT_EQ(nan, 1.0f);
}

TEST_P(SelectTokensTest, MaxGoesOverRowsAndWhatWasThere) {
  std::mt19937 random(3);
  std::normal_distribution<float> values(0.0f, 1.0f);
  for (const int64_t rows : {0, 1, 4}) {
    for (const int64_t count : {1, 7, 64, 1001}) {
      std::vector<float> scores(rows * count), best(count + 1, -kInfinity);
      for (float& score : scores) score = values(random);
      best[0] = 2.0f;
      std::vector<float> expected = best;
      for (int64_t i = 0; i < rows * count; ++i) {
        expected[i % count] = std::max(expected[i % count], scores[i]);
      }
      float nan = 0.0f;
      GetParam().max({.scores = scores.data(),
                      .best = best.data(),
                      .nan = &nan,
                      .rows = rows,
                      .count = count});
      EXPECT_EQ(best, expected);
      EXPECT_EQ(nan, 0.0f);
    }
  }
}

TEST_P(SelectTokensTest, NanInAnyScoreSetsMaxsFlag) {
  for (const int64_t at : {0, 63, 64, 199}) {
    std::vector<float> scores(200, 1.0f), best(100, -kInfinity);
    scores[at] = NAN;
    float nan = 0.0f;
    GetParam().max(
        {.scores = scores.data(), .best = best.data(), .nan = &nan, .rows = 2, .count = 100});
    EXPECT_EQ(nan, 1.0f) << at;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SelectTokensTest,
                         ::testing::Values(Implementation{"ref", SelectTokensRef, MaxScoresRef},
                                           Implementation{"cpu", SelectTokensCpu, MaxScoresCpu}),
                         [](const auto& info) { return info.param.name; });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(Gpu, SelectTokensTest,
                         ::testing::Values(Implementation{
                             "cuda", OnGpuWithFlag<SelectTokensParams, SelectTokensCuda>,
                             OnGpuWithFlag<MaxScoresParams, MaxScoresCuda>}),
                         [](const auto& info) { return info.param.name; });
#endif

}  // namespace
}  // namespace winnow
