// Prefill's KV in paged memory, decoded step by step, against tests/golden/demo (Hugging Face
// transformers and an eager float32 CLAA), and what the decode step promises when something is
// wrong.
#include <algorithm>
#include <limits>

#include "engine/device/ref_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/matmul.h"
#include "tests/engine/decode_fixture.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

struct Ranks {
  int prefill, decode;
};
void PrintTo(const Ranks& r, std::ostream* os) {
  *os << r.prefill << " to " << r.decode << " ranks";
}

class DecodeGoldenTest : public ::testing::TestWithParam<Ranks> {};

TEST_P(DecodeGoldenTest, GreedyTokensAgree) {
  PrefillFixture prefill({.tensor_parallel = GetParam().prefill});
  Decoder decoder(GetParam().decode);
  for (int index : {0, 1}) {
    const GoldenCase golden = LoadGoldenCase(index);
    const int max_tokens = static_cast<int>(golden.full_tokens.size());
    Generation full = Start(prefill, decoder, golden.ids, {.policy = "full"}, max_tokens);
    Generate(decoder, {&full}, golden.full_tokens.size());
    EXPECT_EQ(full.tokens, golden.full_tokens) << "case " << index;
    for (const GoldenCase::Claa& claa : golden.claa) {
      const SelectionOverrides selection{.policy = "claa", .keep_ratio = claa.keep_ratio};
      Generation pruned = Start(prefill, decoder, golden.ids, selection, max_tokens);
      Generate(decoder, {&pruned}, claa.tokens.size());
      EXPECT_EQ(pruned.tokens, claa.tokens) << "case " << index << ", keep " << claa.keep_ratio;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TensorParallel, DecodeGoldenTest,
                         ::testing::Values(Ranks{1, 1}, Ranks{2, 1}, Ranks{1, 2}, Ranks{2, 4},
                                           Ranks{4, 8}, Ranks{8, 2}));

TEST(DecodeEngineTest, AgreesInBf16) {
  if (!CpuHasBf16()) GTEST_SKIP() << "this processor has no bf16";
  PrefillFixture prefill({.dtype = DType::kBf16});
  Decoder decoder(2, DType::kBf16);
  const GoldenCase golden = LoadGoldenCase(1);
  Generation full = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  Generate(decoder, {&full}, 8);
  EXPECT_EQ(full.tokens, golden.full_tokens);
}

TEST(DecodeEngineTest, ABatchOfDifferentLengthsEqualsEachAlone) {
  PrefillFixture prefill({});
  Decoder decoder(2);
  const GoldenCase a = LoadGoldenCase(0), b = LoadGoldenCase(1);
  const SelectionOverrides claa{.policy = "claa", .keep_ratio = a.claa[0].keep_ratio};
  Generation all[] = {Start(prefill, decoder, a.ids, {.policy = "full"}, 8),
                      Start(prefill, decoder, b.ids, claa, 8),
                      Start(prefill, decoder, b.ids, {.policy = "full"}, 8),
                      Start(prefill, decoder, a.ids, claa, 8)};
  Generate(decoder, {&all[0]}, 4);  // the others join later
  Generate(decoder, {&all[0], &all[1], &all[2], &all[3]}, 8);
  EXPECT_EQ(all[0].tokens, a.full_tokens);
  EXPECT_EQ(all[1].tokens, b.claa[0].tokens);
  EXPECT_EQ(all[2].tokens, b.full_tokens);
  EXPECT_EQ(all[3].tokens, a.claa[0].tokens);
}

TEST(DecodeEngineTest, ForcedTokensLeadToTheSameContinuation) {
  PrefillFixture prefill({});
  Decoder decoder(1);
  const GoldenCase golden = LoadGoldenCase(0);
  for (size_t forced : {2u, 5u, 7u}) {
    Generation g = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
    g.tokens.assign(golden.full_tokens.begin(),
                    golden.full_tokens.begin() + static_cast<int64_t>(forced));
    for (; g.steps + 1 < static_cast<int64_t>(forced); ++g.steps) {
      const auto drawn = decoder.engine->Step({g.Next(nullptr)});
      ASSERT_TRUE(drawn.ok()) << drawn.status();
      EXPECT_EQ(drawn->at(0), kNoTokenWanted);
    }
    Generate(decoder, {&g}, 8);
    EXPECT_EQ(g.tokens, golden.full_tokens) << forced << " forced";
  }
}

TEST(DecodeEngineTest, SampledTokensDependOnSeedAndIndexNotOnTheBatch) {
  PrefillFixture prefill({});
  Decoder decoder(1);
  const GoldenCase golden = LoadGoldenCase(0);
  const SamplingParams hot{.temperature = 50.0, .seed = 5};  // nearly uniform over the vocabulary
  Generation a = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  Generation b = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  const int32_t alone = decoder.engine->Step({a.Next(&hot)})->at(0);
  DecodeStepItem other_index = b.Next(&hot);
  other_index.sample_index = 9;
  const auto together = decoder.engine->Step({b.Next(&kGreedy), a.Next(&hot), other_index});
  ASSERT_TRUE(together.ok()) << together.status();
  EXPECT_EQ(together->at(0), golden.full_tokens[1]);
  EXPECT_EQ(together->at(1), alone);
  EXPECT_NE(together->at(2), alone);
}

TEST(DecodeEngineTest, AFailingRankFailsTheStepForAllAtOnceAndTheNextStepWorks) {
  PrefillFixture prefill({});
  Decoder decoder(4);
  const GoldenCase golden = LoadGoldenCase(0);
  Generation g = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  for (int call : {1, 2, 7, 25}) {  // embedding, attention of layer 0, later layers, the last MLP
    decoder.faulty->calls_until_failure = call;
    const absl::Time begin = decoder.clock.Now();
    const auto failed = decoder.engine->Step({g.Next()});
    EXPECT_FALSE(failed.ok()) << "call " << call;
    EXPECT_THAT(failed.status().ToString(), HasSubstr("broken link"));
    EXPECT_LT(decoder.clock.Now() - begin, absl::Seconds(30)) << "peers waited for their deadline";
    EXPECT_EQ(decoder.faulty->calls_until_failure, 0);
  }
  Generate(decoder, {&g}, 8);
  EXPECT_EQ(g.tokens, golden.full_tokens);
}

TEST(DecodeEngineTest, ALateRankFailsTheStepAtItsDeadlineAndTheNextStepWorks) {
  PrefillFixture prefill({});
  Decoder decoder(2, DType::kF32, 8, absl::Seconds(1));
  const GoldenCase golden = LoadGoldenCase(0);
  Generation g = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  decoder.faulty->late = true;
  EXPECT_EQ(decoder.engine->Step({g.Next()}).status().code(), absl::StatusCode::kDeadlineExceeded);
  decoder.faulty->late = false;
  Generate(decoder, {&g}, 2);
  EXPECT_EQ(g.tokens.back(), golden.full_tokens[1]);
}

TEST(DecodeEngineTest, RefusesItemsThatWouldTouchForeignMemory) {
  PrefillFixture prefill({});
  Decoder decoder(1, DType::kF32, /*max_batch=*/2);
  const GoldenCase golden = LoadGoldenCase(0);  // 147 tokens: 10 blocks hold 160
  const Generation g = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  const auto refused = [&](DecodeStepItem item) {
    return decoder.engine->Step({item}).status().code() == absl::StatusCode::kInvalidArgument;
  };
  DecodeStepItem item = g.Next();
  item.handle = 12345;
  EXPECT_TRUE(refused(item));
  for (int64_t added : {-1, 13, 1000000}) {
    item = g.Next();
    item.entries_added = added;
    EXPECT_TRUE(refused(item)) << added;
  }
  item.entries_added = 12;
  EXPECT_FALSE(refused(item));
  for (int32_t token : {-1, 4096}) {
    item = g.Next();
    item.token = token;
    EXPECT_TRUE(refused(item)) << token;
  }
  for (int64_t position : {-1, 32768}) {
    item = g.Next();
    item.position = position;
    EXPECT_TRUE(refused(item)) << position;
  }
  EXPECT_EQ(decoder.engine->Step({}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(decoder.engine->Step({g.Next(), g.Next(), g.Next()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  decoder.kv->Free(g.handle);
  EXPECT_TRUE(refused(g.Next()));
}

TEST(DecodeEngineTest, AKvThatIsNotANumberLosesItsSequenceAlone) {
  PrefillFixture prefill({});
  Decoder decoder(2);
  const GoldenCase golden = LoadGoldenCase(0);
  const Generation bad = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  const Generation good = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  const std::vector<float> row(64, std::numeric_limits<float>::quiet_NaN());
  decoder.kv->Write(bad.handle, 3, true, 1, 20, 1, reinterpret_cast<const std::byte*>(row.data()));
  const SamplingParams hot{.temperature = 1.0};
  const auto drawn = decoder.engine->Step({bad.Next(), good.Next(), bad.Next(&hot)});
  ASSERT_TRUE(drawn.ok()) << drawn.status();
  EXPECT_THAT(*drawn,
              testing::ElementsAre(kLogitsNotFinite, golden.full_tokens[1], kLogitsNotFinite));
}

TEST(DecodeEngineTest, WeightsThatDoNotFitAreRefusedBeforeTheyAreRead) {
  class SmallBackend final : public RefBackend {
   public:
    using RefBackend::RefBackend;
    int64_t FreeBytes() const override { return 1 << 20; }
  };
  RealClock clock;
  const auto loaded = LoadModelRanks(
      {.model_dir = std::string(WINNOW_SOURCE_DIR) + "/models/demo",
       .tensor_parallel = 2,
       .clock = &clock,
       .make_backend = [](int) { return std::make_unique<SmallBackend>(DType::kF32); }});
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(loaded.status().message()),
              testing::HasSubstr("the weights of rank 0 of 2"));
}

TEST(DecodeEngineTest, RefusesToBeMadeOfNothing) {
  EXPECT_EQ(TensorParallelDecode::Create({}).status().code(), absl::StatusCode::kInvalidArgument);
  RealClock clock;
  const std::string model = std::string(WINNOW_SOURCE_DIR) + "/models/demo";
  for (int ranks : {-1, 0, 3}) {
    const auto loaded =
        LoadModelRanks({.model_dir = model, .tensor_parallel = ranks, .clock = &clock});
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << ranks;
  }
}

}  // namespace
}  // namespace winnow
