#include "plan/prefill_flop.h"

#include <gtest/gtest.h>

#include "plan/selection_config.h"

namespace winnow {
namespace {

const ModelShape kLlama8b{.num_layers = 32,
                          .hidden = 4096,
                          .num_q_heads = 32,
                          .num_kv_heads = 8,
                          .head_dim = 128,
                          .intermediate = 14336,
                          .vocab_size = 128256,
                          .max_context = 1 << 20};

double Flop(const ModelShape& shape, const std::string& policy, int64_t tokens) {
  const auto config = ResolveSelectionConfig(DefaultSelectionConfig(shape),
                                             {.policy = policy, .keep_ratio = 0.1}, shape);
  EXPECT_TRUE(config.ok()) << config.status();
  return PrefillFlop(shape, MakePrefillPlan(shape, *config, tokens));
}

// docs/design.md §3, where cuBLAS and cuDNN rates weigh the two kinds of FLOP: here they weigh the
// same, which moves the ratio by a hundredth.
TEST(PrefillFlopTest, TheIdealRatiosOfAnEightBillionModel) {
  for (const auto& [tokens, ratio] :
       std::vector<std::pair<int64_t, double>>{{8192, 1.89}, {32768, 1.93}, {131072, 1.98}}) {
    EXPECT_NEAR(Flop(kLlama8b, "full", tokens) / Flop(kLlama8b, "claa", tokens), ratio, 0.015)
        << tokens;
  }
}

TEST(PrefillFlopTest, OneTokenIsTwiceTheParametersAndItsAttention) {
  const double layer = 4096.0 * (6144 + 4096 + 3 * 14336);
  const double expected = 2 * (32 * layer + 4096.0 * 128256) + 32 * 4.0 * 4096;
  EXPECT_DOUBLE_EQ(Flop(kLlama8b, "full", 1), expected);
}

TEST(PrefillFlopTest, APrunedPromptCostsLessAndAShortOneTheSame) {
  EXPECT_LT(Flop(kLlama8b, "claa", 8192), Flop(kLlama8b, "full", 8192));
  EXPECT_EQ(Flop(kLlama8b, "claa", 100), Flop(kLlama8b, "full", 100));
}

}  // namespace
}  // namespace winnow
