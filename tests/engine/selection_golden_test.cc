// Which tokens CLAA keeps of every family's prompts against tests/golden/selection: float64 NumPy
// on Hugging Face transformers' attention weights (tools/make_selection_goldens).
#include <algorithm>
#include <cmath>
#include <fstream>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"
#include "tests/kernels/tolerance.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// ‖q‖·‖k‖/√d of these models at most, by the norms of their projections: no logit is larger.
constexpr double kLargestLogit = 7.0;

// Bound of the error of a score relative to itself: fp32 through layers 0 … `layer` against
// float64. A sum of n terms adds the relative error 4·√n·u (SumTolerance); errors of different sums
// are independent and add as squares: ε = 4·u·√Σn for the q and the k of `layer`. Their errors are
// independent as well, so a logit, at most L, is wrong by √2·ε·L, a softmax weight by √2 times
// that, relatively, since the denominator's error takes part; a score is a sum of weights.
double ScoreTolerance(const ModelShape& shape, int layer, int64_t num_tokens) {
  const int64_t heads = int64_t{shape.num_q_heads} * shape.head_dim;
  const int64_t to_logit = 2 * shape.hidden + shape.head_dim;  // norm, projection, q·k
  const int64_t others = num_tokens + heads + 2 * shape.hidden + shape.intermediate;
  const double epsilon = SumTolerance((layer + 1) * to_logit + layer * others, 1.0);
  return 2 * kLargestLogit * epsilon;
}

// How far apart two scores may be whose positions change places at the cut.
double CutTolerance(const std::vector<int32_t>& kept, const std::vector<float>& scores,
                    double tolerance) {
  float cut = INFINITY;
  for (const int32_t position : kept) {
    if (position < static_cast<int32_t>(scores.size())) cut = std::min(cut, scores[position]);
  }
  return 2 * tolerance * cut;
}

std::vector<Json> LoadCases(const std::string& model) {
  std::ifstream file(std::string(WINNOW_SOURCE_DIR) + "/tests/golden/selection/" + model + ".json");
  return Json::parse(file).get<std::vector<Json>>();
}

SelectionOverrides Overrides(const Json& selection) {
  SelectionOverrides overrides = *ParseSelectionJson(selection.dump());
  overrides.policy = "claa";
  return overrides;
}

double Tolerance(const PrefillFixture& fixture, const Json& golden, int layer) {
  return ScoreTolerance(fixture.config().shape, layer, static_cast<int64_t>(golden["ids"].size()));
}

class SelectionGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SelectionGoldenTest, KeepsTheSameTokensAfterThePivot) {
  for (const int size : GoldenSplits(GetParam())) {
    PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam()), .tensor_parallel = size});
    for (const Json& golden : LoadCases(GetParam())) {
      SCOPED_TRACE(testing::Message() << "T = " << size << ", " << golden["selection"]);
      const double tolerance = Tolerance(fixture, golden, golden["selection"]["selection_layer"]);
      for (const int64_t chunk : {0, 7}) {
        const auto run = fixture.Prefill(golden["ids"], Overrides(golden["selection"]), chunk);
        ASSERT_TRUE(run.ok()) << run.status();
        const std::vector<float> expected = golden["scores"];
        ASSERT_EQ(run->output.scores.size(), expected.size());
        for (size_t j = 0; j < expected.size(); ++j) {
          EXPECT_NEAR(run->output.scores[j], expected[j], tolerance * expected[j])
              << "position " << j;
        }
        const std::vector<int32_t> kept = golden["kept"];
        EXPECT_EQ(run->output.kept_positions.size(), kept.size());
        EXPECT_TRUE(DifferencesAwayFromTheCut(run->output.kept_positions, kept, expected,
                                              CutTolerance(kept, expected, tolerance))
                        .empty());
      }
    }
  }
}

// What is stored of the layers up to the pivot: each KV head's own choice.
TEST_P(SelectionGoldenTest, KeepsTheSameEntriesOfEveryHead) {
  for (const int size : GoldenSplits(GetParam())) {
    PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam()), .tensor_parallel = size});
    for (const Json& golden : LoadCases(GetParam())) {
      SCOPED_TRACE(testing::Message() << "T = " << size << ", " << golden["selection"]);
      const auto run = fixture.Prefill(golden["ids"], Overrides(golden["selection"]));
      ASSERT_TRUE(run.ok()) << run.status();
      const int64_t count = static_cast<int64_t>(golden["kept"].size());
      int heads_seen = 0;
      for (const KvStaging::Rank& rank : run->staging->ranks) {
        if (!rank.heads.ships_kv) continue;
        for (const auto& [layer, heads] : golden["heads"].items()) {
          for (int head = 0; head < rank.heads.kv_count; ++head, ++heads_seen) {
            const std::string name = std::to_string(rank.heads.kv_begin + head);
            const auto* stored = static_cast<const int32_t*>(
                rank.at(rank.layout.positions_offset(std::stoi(layer), head, 0)));
            const std::vector<float> scores = golden["head_scores"][layer][name];
            EXPECT_TRUE(
                DifferencesAwayFromTheCut(
                    {stored, stored + count}, heads[name], scores,
                    CutTolerance(heads[name], scores, Tolerance(fixture, golden, std::stoi(layer))))
                    .empty())
                << "layer " << layer << " head " << name;
          }
        }
      }
      EXPECT_EQ(heads_seen,
                static_cast<int>(golden["heads"].size()) * fixture.config().shape.num_kv_heads);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, SelectionGoldenTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace winnow
