// The prefill against tests/golden/demo: Hugging Face transformers and an eager float32 CLAA.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/matmul.h"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::IsEmpty;

// The reference sums in another order: a few hundred fp32 roundings of values near 1.
constexpr double kScoreTolerance = 2e-4;
constexpr double kLogitTolerance = 1e-3;  // the project's promise for f32

SelectionOverrides Full() { return {.policy = "full"}; }
SelectionOverrides Claa(double keep_ratio) { return {.policy = "claa", .keep_ratio = keep_ratio}; }

struct Variant {
  int tensor_parallel;
  int64_t chunk;
};
void PrintTo(const Variant& v, std::ostream* os) {
  *os << "T=" << v.tensor_parallel << ", chunk " << v.chunk;
}

class PrefillGoldenTest : public ::testing::TestWithParam<Variant> {
 protected:
  PrefillFixture::Options options(DType dtype) const {
    return {.tensor_parallel = GetParam().tensor_parallel, .dtype = dtype};
  }
};

TEST_P(PrefillGoldenTest, FullLogitsAgreeInF32) {
  PrefillFixture fixture(options(DType::kF32));
  for (int index : {0, 1}) {
    const GoldenCase golden = LoadGoldenCase(index);
    const auto run = fixture.Prefill(golden.ids, Full(), GetParam().chunk);
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_LE(MaxDifference(run->output.logits, golden.first_token_logits), kLogitTolerance)
        << "case " << index;
    EXPECT_EQ(ArgMax(run->output.logits), golden.full_tokens[0]);
  }
}

TEST_P(PrefillGoldenTest, FullLogitsAgreeInBf16) {
  if (!CpuHasBf16()) GTEST_SKIP() << "this processor has no bf16";
  PrefillFixture fixture(options(DType::kBf16));
  for (int index : {0, 1}) {
    const GoldenCase golden = LoadGoldenCase(index);
    const auto run = fixture.Prefill(golden.ids, Full(), GetParam().chunk);
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_GE(Cosine(run->output.logits, golden.first_token_logits), 0.999) << "case " << index;
    EXPECT_EQ(ArgMax(run->output.logits), golden.full_tokens[0]);
  }
}

TEST_P(PrefillGoldenTest, SelectionAgrees) {
  PrefillFixture fixture(options(DType::kF32));
  for (int index : {0, 1}) {
    const GoldenCase golden = LoadGoldenCase(index);
    for (const GoldenCase::Claa& claa : golden.claa) {
      const auto run = fixture.Prefill(golden.ids, Claa(claa.keep_ratio), GetParam().chunk);
      ASSERT_TRUE(run.ok()) << run.status();
      EXPECT_LE(MaxDifference(run->output.scores, golden.selection_scores), kScoreTolerance);
      EXPECT_EQ(run->output.kept_positions.size(), claa.kept_positions.size());
      EXPECT_THAT(DifferencesAwayFromTheCut(claa.kept_positions, run->output.kept_positions,
                                            golden.selection_scores, kScoreTolerance),
                  IsEmpty())
          << "case " << index << ", keep " << claa.keep_ratio;
      EXPECT_EQ(ArgMax(run->output.logits), claa.tokens[0])
          << "case " << index << ", keep " << claa.keep_ratio;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(RanksAndChunks, PrefillGoldenTest,
                         ::testing::Values(Variant{1, 0}, Variant{2, 0}, Variant{4, 0},
                                           Variant{8, 0}, Variant{1, 5}, Variant{2, 100},
                                           Variant{8, 333}));

}  // namespace
}  // namespace winnow
