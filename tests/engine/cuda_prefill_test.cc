// Prefill on a GPU against the same goldens as on the CPU: the demo model with and without CLAA,
// and tiny models of every family.
#include "engine/device/cuda_backend.h"
#include "engine/ranks/cuda_ranks.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::IsEmpty;

// fp32 sums in other orders, of values near 1 (scores) and up to 20 (logits).
constexpr double kScoreTolerance = 2e-4;
constexpr double kLogitTolerance = 1e-3;
constexpr double kFamilyTolerance = 2e-3;  // relative to the largest logit

absl::Status Gpu(ModelRanks::Options& options) { return UseCuda(options); }

class CudaPrefillTest : public ::testing::TestWithParam<int64_t> {  // rows of a chunk
 protected:
  void SetUp() override {
    if (NumCudaDevices() == 0) GTEST_SKIP() << "no GPU here";
  }
};

TEST_P(CudaPrefillTest, FullLogitsAgree) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    PrefillFixture fixture({.dtype = dtype, .use_device = Gpu});
    for (const int index : {0, 1}) {
      const GoldenCase golden = LoadGoldenCase(index);
      const auto run = fixture.Prefill(golden.ids, {.policy = "full"}, GetParam());
      ASSERT_TRUE(run.ok()) << run.status();
      const std::vector<float>& logits = run->output.logits;
      EXPECT_EQ(ArgMax(logits), golden.full_tokens[0]);
      EXPECT_GE(Cosine(logits, golden.first_token_logits), 0.999);
      if (dtype == DType::kF32) {
        EXPECT_LE(MaxDifference(logits, golden.first_token_logits), kLogitTolerance);
      }
    }
  }
}

TEST_P(CudaPrefillTest, SelectionAgrees) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    PrefillFixture fixture({.dtype = dtype, .use_device = Gpu});
    for (const int index : {0, 1}) {
      const GoldenCase golden = LoadGoldenCase(index);
      for (const GoldenCase::Claa& claa : golden.claa) {
        SCOPED_TRACE(testing::Message()
                     << DTypeName(dtype) << ", case " << index << ", keep " << claa.keep_ratio);
        const auto run = fixture.Prefill(
            golden.ids, {.policy = "claa", .keep_ratio = claa.keep_ratio}, GetParam());
        ASSERT_TRUE(run.ok()) << run.status();
        EXPECT_EQ(run->output.kept_positions.size(), claa.kept_positions.size());
        EXPECT_EQ(ArgMax(run->output.logits), claa.tokens[0]);
        if (dtype == DType::kBf16) continue;
        EXPECT_LE(MaxDifference(run->output.scores, golden.selection_scores), kScoreTolerance);
        EXPECT_THAT(DifferencesAwayFromTheCut(claa.kept_positions, run->output.kept_positions,
                                              golden.selection_scores, kScoreTolerance),
                    IsEmpty());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Chunks, CudaPrefillTest, ::testing::Values(0, 100));

// The memory plan counts what a prompt takes, to the rounding of the allocator.
TEST(CudaMemoryTest, APromptTakesWhatTheEngineSays) {
  if (NumCudaDevices() == 0) GTEST_SKIP() << "no GPU here";
  PrefillFixture fixture({.dtype = DType::kBf16, .use_device = Gpu});
  const std::vector<int32_t> ids(3000, 7);
  for (const char* policy : {"full", "claa"}) {
    SCOPED_TRACE(policy);
    PrefillSpec spec{.prompt_ids = ids, .selection = fixture.Resolve({.policy = policy})};
    spec.plan = MakePrefillPlan(fixture.engine().shape(), spec.selection, 3000);
    const PrefillMemory before = fixture.engine().MemoryFor(spec.plan, spec.selection);
    const int64_t free = fixture.backend().FreeBytes();
    const auto sequence = fixture.engine().Admit(spec, nullptr, nullptr);
    ASSERT_TRUE(sequence.ok()) << sequence.status();
    const int64_t taken = free - fixture.backend().FreeBytes();
    EXPECT_GE(taken, before.needed);
    EXPECT_LE(taken, before.needed + (64 << 10));
    EXPECT_EQ(fixture.engine().MemoryFor(spec.plan, spec.selection).free,
              before.free - before.needed);
    fixture.engine().Release(*sequence);
    EXPECT_EQ(fixture.engine().MemoryFor(spec.plan, spec.selection).free, before.total);
  }
}

class CudaModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (NumCudaDevices() == 0) GTEST_SKIP() << "no GPU here";
  }
};

TEST_P(CudaModelTest, LogitsAgree) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    PrefillFixture fixture(
        {.model_dir = GoldenModelFolder(GetParam()), .dtype = dtype, .use_device = Gpu});
    for (const ModelPrompt& prompt : LoadModelPrompts(GetParam())) {
      const auto run = fixture.Prefill(prompt.ids, {.policy = "full"});
      ASSERT_TRUE(run.ok()) << run.status();
      EXPECT_GE(Cosine(run->output.logits, prompt.logits), 0.999) << DTypeName(dtype);
      if (dtype == DType::kBf16) continue;
      EXPECT_LE(RelativeDifference(run->output.logits, prompt.logits), kFamilyTolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaModelTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace winnow
