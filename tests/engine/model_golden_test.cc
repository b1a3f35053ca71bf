// Every family against tests/golden/models: Hugging Face transformers on tiny random models
// (tools/make_model_goldens).
#include <cmath>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/matmul.h"
#include "nlohmann/json.hpp"
#include "tests/engine/decode_fixture.h"

namespace winnow {
namespace {

// Largest difference of a logit, relative to the largest logit.
constexpr double kF32Tolerance = 2e-3;

std::string Folder(const std::string& name) {
  return std::string(WINNOW_SOURCE_DIR) + "/tests/golden/models/" + name;
}

struct Prompt {
  std::vector<int32_t> ids, argmax, generated;
  std::vector<float> logits;
};

std::vector<Prompt> LoadPrompts(const std::string& name) {
  std::ifstream file(Folder(name) + "/golden.json");
  std::vector<Prompt> prompts;
  const auto golden = nlohmann::json::parse(file);
  for (const auto& json : golden["prompts"]) {
    prompts.push_back({json["ids"], json["argmax"], json["generated"], json["logits"]});
  }
  return prompts;
}

double RelativeDifference(const std::vector<float>& got, const std::vector<float>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    worst = std::max<double>(worst, std::abs(got[i] - expected[i]));
    largest = std::max<double>(largest, std::abs(expected[i]));
  }
  return worst / largest;
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb);
}

class ModelGoldenTest : public ::testing::TestWithParam<const char*> {
 protected:
  // Tensor-parallel sizes of 1 to 4 that the model can be split into.
  std::vector<int> Splits() const {
    const auto config = LoadModelConfig(Folder(GetParam()));
    EXPECT_TRUE(config.ok()) << config.status();
    std::vector<int> splits;
    for (const int size : {1, 2, 3, 4}) {
      if (MakeShardPlan(config->shape, size, 0).ok()) splits.push_back(size);
    }
    EXPECT_GE(splits.size(), 2u) << "only T = 1";
    return splits;
  }
};

TEST_P(ModelGoldenTest, LogitsAgreeInF32OnAnyNumberOfRanks) {
  for (const int size : Splits()) {
    SCOPED_TRACE(testing::Message() << "T = " << size);
    PrefillFixture fixture({.model_dir = Folder(GetParam()), .tensor_parallel = size});
    for (const Prompt& prompt : LoadPrompts(GetParam())) {
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
  PrefillFixture fixture({.model_dir = Folder(GetParam())});
  for (const Prompt& prompt : LoadPrompts(GetParam())) {
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
  PrefillFixture fixture({.model_dir = Folder(GetParam()), .dtype = DType::kBf16});
  for (const Prompt& prompt : LoadPrompts(GetParam())) {
    const auto run = fixture.Prefill(prompt.ids, {.policy = "full"});
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_GE(Cosine(run->output.logits, prompt.logits), 0.999) << prompt.ids.size() << " tokens";
  }
}

TEST_P(ModelGoldenTest, DecodingGoesOnAsTheReferenceDoes) {
  for (const int size : Splits()) {
    SCOPED_TRACE(testing::Message() << "T = " << size);
    PrefillFixture prefill({.model_dir = Folder(GetParam()), .tensor_parallel = size});
    Decoder decoder(size, DType::kF32, 8, absl::Seconds(60), Folder(GetParam()));
    for (const Prompt& prompt : LoadPrompts(GetParam())) {
      const size_t count = prompt.generated.size();
      Generation generation =
          Start(prefill, decoder, prompt.ids, {.policy = "full"}, static_cast<int>(count));
      Generate(decoder, {&generation}, count);
      EXPECT_EQ(generation.tokens, prompt.generated) << prompt.ids.size() << " tokens";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ModelGoldenTest,
                         ::testing::Values("llama2", "llama3", "llama3_1", "llama3_2",
                                           "llama_linear", "mistral_v0_1", "mistral_v0_3",
                                           "mistral_nemo", "qwen2", "qwen2_5_tied", "qwen2_yarn",
                                           "qwen3", "qwen3_tied"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace winnow
