// What a plan's passes can say, by plans that no policy makes yet: rows are given, so each stage's
// result has a plain twin to compare with.
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>

#include "engine/select/given_selector.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kTokens = 300;
constexpr int kLayers = 12;  // the demo model's

std::vector<int32_t> Ids() {
  std::vector<int32_t> ids(kTokens);
  for (int64_t i = 0; i < kTokens; ++i) ids[i] = static_cast<int32_t>((i * 7919 + 13) % 4000);
  return ids;
}

// Every `step`-th of `count` rows, and the last one.
std::vector<int32_t> Every(int32_t step, int32_t count) {
  std::vector<int32_t> rows;
  for (int32_t row = 0; row < count; row += step) rows.push_back(row);
  if (rows.back() != count - 1) rows.push_back(count - 1);
  return rows;
}

// Given rows, and a record of what the selector was shown.
class RecordingSelector final : public TokenSelector {
 public:
  RecordingSelector(std::unique_ptr<GivenSelector> given, std::vector<std::string>& calls)
      : given_(std::move(given)), calls_(calls) {}
  int64_t first_query_row() const override { return kTokens - 1; }
  void OnQueries(int layer, const void*, int64_t row_begin, int64_t rows) override {
    if (row_begin + rows > kTokens - 1) calls_.push_back("queries " + std::to_string(layer));
  }
  float* attention_lse(int, int64_t) const override { return nullptr; }
  absl::Status OnKeys(int layer, const void* keys, const float*, Deadline) override {
    calls_.push_back(keys == nullptr ? "no keys" : "keys " + std::to_string(layer));
    return absl::OkStatus();
  }
  absl::Status Reduce(int pass, Deadline) override {
    calls_.push_back("reduce " + std::to_string(pass));
    return absl::OkStatus();
  }
  void Select(int pass) override { calls_.push_back("select " + std::to_string(pass)); }
  const int32_t* rows(int pass) const override { return given_->rows(pass); }
  const int32_t* positions(int pass) const override { return given_->positions(pass); }
  const int32_t* head_positions(int) const override { return nullptr; }
  void CopyResults() override {}
  absl::Status Check() const override { return absl::OkStatus(); }
  absl::Span<const int32_t> kept_positions() const override { return given_->kept_positions(); }
  absl::Span<const float> scores() const override { return {}; }

 private:
  const std::unique_ptr<GivenSelector> given_;
  std::vector<std::string>& calls_;
};

// The same rows for every prompt.
class GivenRows final : public SelectorFactory {
 public:
  explicit GivenRows(std::vector<std::vector<int32_t>> rows) : rows_(std::move(rows)) {}
  absl::StatusOr<std::unique_ptr<TokenSelector>> Make(const SelectorContext& context,
                                                      Communicator&) const override {
    auto given = GivenSelector::Create(context, rows_);
    if (!given.ok()) return given.status();
    return std::make_unique<RecordingSelector>(*std::move(given), calls_);
  }
  int64_t DeviceBytes(const SelectorContext& context, int) const override {
    return GivenSelector::DeviceBytes(context.plan);
  }
  std::vector<std::string> TakeCalls() const { return std::exchange(calls_, {}); }

 private:
  const std::vector<std::vector<int32_t>> rows_;
  mutable std::vector<std::string> calls_;
};

struct Result {
  std::map<int, PrefillOutput> outputs;  // by pass
  std::shared_ptr<KvStaging> staging;
};

Result Compute(PrefillFixture& fixture, const PrefillPlan& plan, const std::vector<int32_t>& ids,
               int64_t chunk) {
  class : public KvSink {
    void OnKvReady(const KvReady&, EventPtr) override {}
  } sink;
  TensorParallelPrefill& engine = fixture.engine();
  Result result;
  result.staging = *engine.AllocateStaging(plan.kv);
  const auto sequence =
      engine.Admit({ids, fixture.Resolve({.policy = "full"}), plan}, result.staging, &sink);
  EXPECT_TRUE(sequence.ok()) << sequence.status();
  while (true) {
    const PrefillProgress progress = *engine.Progress(*sequence);
    if (progress.is_done()) break;
    const int64_t rows = std::min(chunk, progress.num_rows - progress.next_row);
    auto outputs = engine.Step({{*sequence, progress.pass, progress.next_row, rows}});
    EXPECT_TRUE(outputs.ok()) << outputs.status();
    if (!outputs.ok()) break;
    for (PrefillOutput& output : *outputs) {
      EXPECT_EQ(output.status, absl::OkStatus());
      const int pass = output.pass;
      result.outputs[pass] = std::move(output);
    }
  }
  engine.Release(*sequence);
  return result;
}

std::vector<float> Keys(const Result& result, int layer, int head) {
  const KvStaging::Rank& rank = result.staging->ranks[0];
  const int64_t count = rank.layout.slots(layer) * result.staging->plan.head_dim;
  std::vector<float> keys(count);
  std::memcpy(keys.data(), rank.at(rank.layout.key_offset(layer, head, 0)), count * sizeof(float));
  return keys;
}

void ExpectNear(const std::vector<float>& a, const std::vector<float>& b, float tolerance,
                const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], tolerance) << what << ", " << i;
}

// Layers run the same rows in other chunks: fp32 sums in another order.
constexpr float kRounding = 2e-4f;

PrefillPass LastPass(PrefillPass pass) {
  pass.last_layer = kLayers - 1;
  pass.first_scored_layer = kLayers;
  pass.makes_logits = true;
  return pass;
}

TEST(PassesTest, ARestartRunsTheKeptTokensAsAPromptOfTheirOwn) {
  const std::vector<int32_t> kept = Every(3, kTokens);
  const auto num_kept = static_cast<int64_t>(kept.size());
  const GivenRows rows({{}, kept});
  PrefillFixture fixture({.selectors = &rows});
  PrefillPlan plan;
  plan.kv = EmptyKvPlan(fixture.engine().shape(), kTokens);
  plan.kv.segments = {{kLayers, KvForm::kAll, num_kept}};
  plan.kv.next_position = num_kept;
  plan.passes = {
      {.num_rows = kTokens, .last_layer = 5, .first_scored_layer = 5},
      LastPass(
          {.is_selected = true, .num_rows = num_kept, .is_renumbered = true, .stores_kv = true})};
  std::vector<int32_t> kept_ids;
  for (const int32_t row : kept) kept_ids.push_back(Ids()[row]);
  const Result alone =
      Compute(fixture, UnprunedPlan(fixture.engine().shape(), num_kept), kept_ids, 1024);
  for (const int64_t chunk : {1024, 37}) {
    rows.TakeCalls();
    const Result restarted = Compute(fixture, plan, Ids(), chunk);
    EXPECT_THAT(rows.TakeCalls(), ElementsAre("queries 5", "keys 5", "reduce 1", "select 1"));
    ASSERT_EQ(restarted.outputs.count(1), 1u);
    ExpectNear(restarted.outputs.at(1).logits, alone.outputs.at(0).logits, kRounding, "logits");
    for (int layer = 0; layer < kLayers; ++layer) {
      ExpectNear(Keys(restarted, layer, 1), Keys(alone, layer, 1), kRounding,
                 "layer " + std::to_string(layer));
    }
  }
}

// Three selections at layers 2, 5 and 8; what each stores has as many entries as rows run.
TEST(PassesTest, SelectionsFollowOneAnother) {
  const std::vector<int32_t> first = Every(2, kTokens);
  const std::vector<int32_t> second = Every(2, static_cast<int32_t>(first.size()));
  const std::vector<int32_t> third = Every(2, static_cast<int32_t>(second.size()));
  const auto n1 = static_cast<int64_t>(first.size()), n2 = static_cast<int64_t>(second.size()),
             n3 = static_cast<int64_t>(third.size());
  const GivenRows rows({{}, first, second, third});
  PrefillFixture fixture({.selectors = &rows});
  PrefillPlan plan;
  plan.kv = EmptyKvPlan(fixture.engine().shape(), kTokens);
  plan.kv.tail_begin = kTokens - 1;
  plan.kv.segments = {{3, KvForm::kAll, kTokens},
                      {3, KvForm::kSelected, n1},
                      {3, KvForm::kSelected, n2},
                      {3, KvForm::kSelected, n3}};
  const auto stage = [](int source, int64_t num_rows, int from, int to) {
    return PrefillPass{.source = source,
                       .is_selected = true,
                       .num_rows = num_rows,
                       .first_layer = from,
                       .last_layer = to,
                       .first_scored_layer = to,
                       .stores_kv = true};
  };
  plan.passes = {{.num_rows = kTokens, .last_layer = 2, .first_scored_layer = 2, .stores_kv = true},
                 stage(0, n1, 2, 5),
                 stage(1, n2, 5, 8),
                 LastPass(stage(2, n3, 8, kLayers - 1))};
  const Result whole = Compute(fixture, plan, Ids(), 1024);
  EXPECT_THAT(rows.TakeCalls(),
              ElementsAre("queries 2", "keys 2", "reduce 1", "select 1", "keys 5", "reduce 2",
                          "select 2", "keys 8", "reduce 3", "select 3"));
  // The positions of a stage are those of its rows in the prompt: every second, fourth, eighth.
  const KvStaging::Rank& rank = whole.staging->ranks[0];
  for (int layer = 3; layer < kLayers; ++layer) {
    const auto* positions =
        static_cast<const uint32_t*>(rank.at(rank.layout.positions_offset(layer, 0, 0)));
    const int32_t step = layer < 6 ? 2 : layer < 9 ? 4 : 8;
    EXPECT_THAT(std::vector<int32_t>(positions, positions + rank.layout.slots(layer)),
                Every(step, kTokens))
        << layer;
  }
  const Result chunked = Compute(fixture, plan, Ids(), 41);
  ExpectNear(chunked.outputs.at(3).logits, whole.outputs.at(3).logits, kRounding, "logits");
}

// Stages whose rows are the same make the prompt of one selection.
TEST(PassesTest, AStageThatKeepsEverythingChangesNothing) {
  const std::vector<int32_t> kept = Every(3, kTokens);
  const auto num_kept = static_cast<int64_t>(kept.size());
  std::vector<int32_t> all(num_kept);
  std::iota(all.begin(), all.end(), 0);
  const PrefillPass prompt{
      .num_rows = kTokens, .last_layer = 4, .first_scored_layer = 5, .stores_kv = true};
  const PrefillPass selected{.source = 0,
                             .is_selected = true,
                             .num_rows = num_kept,
                             .first_layer = 4,
                             .last_layer = 7,
                             .first_scored_layer = 8,
                             .stores_kv = true};
  PrefillPass again = selected;
  again.source = 1;
  again.first_layer = 7;
  const GivenRows once_rows({{}, kept}), twice_rows({{}, kept, all});
  PrefillFixture once({.selectors = &once_rows}), twice({.selectors = &twice_rows});
  PrefillPlan plan;
  plan.kv = EmptyKvPlan(once.engine().shape(), kTokens);
  plan.kv.segments = {{5, KvForm::kAll, kTokens}, {kLayers - 5, KvForm::kSelected, num_kept}};
  plan.passes = {prompt, LastPass(selected)};
  const Result one = Compute(once, plan, Ids(), 1024);
  plan.passes = {prompt, selected, LastPass(again)};
  const Result two = Compute(twice, plan, Ids(), 1024);
  EXPECT_EQ(two.outputs.at(2).logits, one.outputs.at(1).logits);
  for (int layer = 0; layer < kLayers; ++layer) EXPECT_EQ(Keys(two, layer, 0), Keys(one, layer, 0));
}

// Token 0 from a draft of few rows that stores nothing; what is shipped comes from all rows.
TEST(PassesTest, ADraftGivesTokenZeroAndTheCompletionStoresTheWholePrompt) {
  const std::vector<int32_t> kept = Every(3, kTokens);
  const auto num_kept = static_cast<int64_t>(kept.size());
  const GivenRows rows({{}, kept, {}});
  PrefillFixture fixture({.tensor_parallel = 1, .selectors = &rows});
  const PrefillPlan full = UnprunedPlan(fixture.engine().shape(), kTokens);
  PrefillPlan plan;
  plan.kv = full.kv;
  plan.passes = {
      {.num_rows = kTokens, .last_layer = 5, .first_scored_layer = 5, .stores_kv = true},
      LastPass({.source = 0, .is_selected = true, .num_rows = num_kept, .first_layer = 5}),
      LastPass({.source = 0, .num_rows = kTokens, .first_layer = 5, .stores_kv = true})};
  PrefillPlan pruned = plan;  // the draft alone, as a prompt of its own
  pruned.kv.segments = {{6, KvForm::kAll, kTokens}, {kLayers - 6, KvForm::kSelected, num_kept}};
  pruned.passes.pop_back();
  pruned.passes.back().stores_kv = true;

  const Result unpruned = Compute(fixture, full, Ids(), 1024);
  const Result draft = Compute(fixture, pruned, Ids(), 1024);
  for (const int64_t chunk : {1024, 64}) {
    const Result both = Compute(fixture, plan, Ids(), chunk);
    ASSERT_EQ(both.outputs.size(), 2u);
    EXPECT_FALSE(both.outputs.at(1).is_last);
    EXPECT_TRUE(both.outputs.at(2).is_last);
    const float rounding = chunk == 1024 ? 0.0f : kRounding;
    ExpectNear(both.outputs.at(1).logits, draft.outputs.at(1).logits, rounding, "draft");
    ExpectNear(both.outputs.at(2).logits, unpruned.outputs.at(0).logits, rounding, "completion");
    EXPECT_EQ(both.outputs.at(1).kept_positions, kept);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < both.staging->plan.num_kv_heads; ++head) {
        ExpectNear(Keys(both, layer, head), Keys(unpruned, layer, head), rounding,
                   "layer " + std::to_string(layer));
      }
    }
  }
}

TEST(PassesTest, UniformRunsItsRowsAtTheirPositionsOfThePrompt) {
  PrefillFixture fixture({.tensor_parallel = 2});
  std::vector<int32_t> ids(1000);
  for (int i = 0; i < 1000; ++i) ids[i] = (i * 31 + 7) % 4000;
  const auto full = fixture.Prefill(ids, {.policy = "full"});
  const auto uniform = fixture.Prefill(ids, {.policy = "uniform", .keep_ratio = 0.4}, 90);
  ASSERT_TRUE(full.ok() && uniform.ok()) << uniform.status();
  const std::vector<int32_t>& kept = uniform->output.kept_positions;
  ASSERT_EQ(kept.size(), 400u);
  EXPECT_THAT(uniform->output.scores, IsEmpty());
  EXPECT_NE(uniform->output.selection_digest, 0u);
  // K of layer 0 depend on the token and its position alone.
  for (int r = 0; r < 2; ++r) {
    const KvStaging::Rank& all = full->staging->ranks[r];
    const KvStaging::Rank& some = uniform->staging->ranks[r];
    const auto* positions =
        static_cast<const int32_t*>(some.at(some.layout.positions_offset(0, 0, 0)));
    EXPECT_EQ(std::vector<int32_t>(positions, positions + 400), kept);
    for (int head = 0; head < some.heads.kv_count; ++head) {
      for (int64_t slot = 0; slot < 400; ++slot) {
        const auto* expected =
            static_cast<const float*>(all.at(all.layout.key_offset(0, head, kept[slot])));
        const auto* got = static_cast<const float*>(some.at(some.layout.key_offset(0, head, slot)));
        for (int c = 0; c < 64; ++c) ASSERT_NEAR(got[c], expected[c], 1e-5) << slot;
      }
    }
  }
}

// A prompt that `uniform` does not prune is the unpruned one.
TEST(PassesTest, UniformOfAShortPromptEqualsFull) {
  PrefillFixture fixture({});
  const auto full = fixture.Prefill(Ids(), {.policy = "full"});
  const auto uniform = fixture.Prefill(Ids(), {.policy = "uniform", .keep_ratio = 0.1});
  ASSERT_TRUE(full.ok() && uniform.ok());
  EXPECT_EQ(uniform->output.logits, full->output.logits);
}

}  // namespace
}  // namespace winnow
