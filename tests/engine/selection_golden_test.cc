// Which tokens CLAA keeps of every family's prompts against tests/golden/selection: float64 NumPy
// on Hugging Face transformers' attention weights (tools/make_selection_goldens).
#include <fstream>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// Of a score: fp32 attention through a few layers against float64.
constexpr double kTolerance = 1e-4;

std::vector<Json> LoadCases(const std::string& model) {
  std::ifstream file(std::string(WINNOW_SOURCE_DIR) + "/tests/golden/selection/" + model + ".json");
  return Json::parse(file).get<std::vector<Json>>();
}

SelectionOverrides Overrides(const Json& selection) {
  SelectionOverrides overrides = *ParseSelectionJson(selection.dump());
  overrides.policy = "claa";
  return overrides;
}

class SelectionGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SelectionGoldenTest, KeepsTheSameTokensAfterThePivot) {
  for (const int size : GoldenSplits(GetParam())) {
    PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam()), .tensor_parallel = size});
    for (const Json& golden : LoadCases(GetParam())) {
      SCOPED_TRACE(testing::Message() << "T = " << size << ", " << golden["selection"]);
      for (const int64_t chunk : {0, 7}) {
        const auto run = fixture.Prefill(golden["ids"], Overrides(golden["selection"]), chunk);
        ASSERT_TRUE(run.ok()) << run.status();
        const std::vector<float> expected = golden["scores"];
        ASSERT_EQ(run->output.scores.size(), expected.size());
        for (size_t j = 0; j < expected.size(); ++j) {
          EXPECT_NEAR(run->output.scores[j], expected[j], kTolerance) << "position " << j;
        }
        const std::vector<int32_t> kept = golden["kept"];
        EXPECT_EQ(run->output.kept_positions.size(), kept.size());
        EXPECT_TRUE(
            DifferencesAwayFromTheCut(run->output.kept_positions, kept, expected, kTolerance)
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
            EXPECT_TRUE(DifferencesAwayFromTheCut({stored, stored + count}, heads[name],
                                                  golden["head_scores"][layer][name], kTolerance)
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
