// Every family against tests/golden/models: Hugging Face transformers on tiny random models
// (tools/make_model_goldens).
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/matmul.h"
#include "tests/engine/decode_fixture.h"
#include "tests/engine/goldens.h"

namespace winnow {
namespace {

// Largest difference of a logit, relative to the largest logit.
constexpr double kF32Tolerance = 2e-3;

class ModelGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ModelGoldenTest, LogitsAgreeInF32OnAnyNumberOfRanks) {
  for (const int size : GoldenSplits(GetParam())) {
    SCOPED_TRACE(testing::Message() << "T = " << size);
    PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam()), .tensor_parallel = size});
    for (const ModelPrompt& prompt : LoadModelPrompts(GetParam())) {
      for (const int64_t chunk : {0, 5}) {
        const auto run = fixture.Prefill(prompt.ids, {.policy = "full"}, chunk);
        ASSERT_TRUE(run.ok()) << run.status();
        EXPECT_LE(RelativeDifference(run->output.logits, prompt.logits), kF32Tolerance)
            << prompt.ids.size() << " tokens, chunk " << chunk;
      }
    }
  }
}

TEST_P(ModelGoldenTest, TheLikeliestTokenAgreesAtEveryPosition) {
  PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam())});
  for (const ModelPrompt& prompt : LoadModelPrompts(GetParam())) {
    for (size_t length = 1; length <= prompt.ids.size(); ++length) {
      const auto run =
          fixture.Prefill({prompt.ids.begin(), prompt.ids.begin() + length}, {.policy = "full"});
      ASSERT_TRUE(run.ok()) << run.status();
      EXPECT_EQ(ArgMax(run->output.logits), prompt.argmax[length - 1]) << "position " << length - 1;
    }
  }
}

TEST_P(ModelGoldenTest, LogitsAgreeInBf16) {
  if (!CpuHasBf16()) GTEST_SKIP() << "this processor has no bf16";
  PrefillFixture fixture({.model_dir = GoldenModelFolder(GetParam()), .dtype = DType::kBf16});
  for (const ModelPrompt& prompt : LoadModelPrompts(GetParam())) {
    const auto run = fixture.Prefill(prompt.ids, {.policy = "full"});
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_GE(Cosine(run->output.logits, prompt.logits), 0.999) << prompt.ids.size() << " tokens";
  }
}

TEST_P(ModelGoldenTest, DecodingGoesOnAsTheReferenceDoes) {
  for (const int size : GoldenSplits(GetParam())) {
    SCOPED_TRACE(testing::Message() << "T = " << size);
    PrefillFixture prefill({.model_dir = GoldenModelFolder(GetParam()), .tensor_parallel = size});
    Decoder decoder(size, DType::kF32, 8, absl::Seconds(60), GoldenModelFolder(GetParam()));
    for (const ModelPrompt& prompt : LoadModelPrompts(GetParam())) {
      const size_t count = prompt.generated.size();
      Generation generation =
          Start(prefill, decoder, prompt.ids, {.policy = "full"}, static_cast<int>(count));
      Generate(decoder, {&generation}, count);
      EXPECT_EQ(generation.tokens, prompt.generated) << prompt.ids.size() << " tokens";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ModelGoldenTest, ::testing::ValuesIn(GoldenModels()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace winnow
