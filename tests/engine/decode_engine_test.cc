// Prefill's KV in paged memory, decoded step by step, against tests/golden/demo (Hugging Face transformers and an eager
// float32 CLAA), and what the decode step promises when something is wrong.
#include <algorithm>
#include <limits>

#include "engine/model/model_ranks.h"
#include "engine/tensor_parallel_decode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/matmul.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

const SamplingParams kGreedy{};

int32_t ArgMax(const std::vector<float>& values) {
  return static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// Calls the inner one until it is told to misbehave.
class FaultyCommunicator final : public Communicator {
 public:
  FaultyCommunicator(Communicator& inner, const Clock& clock) : inner_(inner), clock_(clock) {}
  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    if (calls_until_failure > 0 && --calls_until_failure == 0) return absl::DataLossError("broken link");
    while (late && !deadline.HasPassed(clock_)) absl::SleepFor(absl::Milliseconds(1));
    return inner_.AllReduceSum(data, dtype, count, deadline);
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    return inner_.AllReduceMax(data, count, deadline);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    return inner_.AllGather(in, out, bytes, deadline);
  }
  absl::Status Agree(const absl::Status& mine, Deadline deadline) override { return inner_.Agree(mine, deadline); }
  void Abort(const absl::Status& reason) override { inner_.Abort(reason); }

  int calls_until_failure = 0;  // 0: never
  bool late = false;            // comes when the deadline has passed

 private:
  Communicator& inner_;
  const Clock& clock_;
};

// The demo model's decode engine on T ranks; the last rank's communicator can fail.
struct Decoder {
  explicit Decoder(int tensor_parallel, DType dtype = DType::kF32, int max_batch = 8,
                   absl::Duration step_timeout = absl::Seconds(60)) {
    auto loaded = LoadModelRanks({.model_dir = std::string(WINNOW_SOURCE_DIR) + "/models/demo",
                                  .dtype = dtype,
                                  .tensor_parallel = tensor_parallel,
                                  .threads_per_rank = 1,
                                  .clock = &clock});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    ranks = *std::move(loaded);
    PagedKv::Options kv_options{.shape = ranks->config.shape, .num_blocks = 5000};
    for (const auto& backend : ranks->backends) kv_options.backends.push_back(backend.get());
    kv = *PagedKv::Create(kv_options);
    TensorParallelDecode::Options options{.kv = kv.get(), .clock = &clock, .max_batch = max_batch,
                                          .step_timeout = step_timeout};
    ranks->Fill(options);
    faulty = std::make_unique<FaultyCommunicator>(*options.ranks.back().communicator, clock);
    options.ranks.back().communicator = faulty.get();
    auto made = TensorParallelDecode::Create(options);
    EXPECT_TRUE(made.ok()) << made.status();
    engine = *std::move(made);
  }

  // Reserves and copies a prefill's KV, as the transfer would.
  int64_t Take(const PrefillFixture::Run& run, int max_tokens) {
    const KvPlan& plan = run.staging->plan;
    const auto handle = kv->Reserve(plan, max_tokens - 1);
    EXPECT_TRUE(handle.ok()) << handle.status();
    for (const KvStaging::Rank& rank : run.staging->ranks) {
      if (!rank.heads.ships_kv) continue;
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        for (int head = 0; head < rank.heads.kv_count; ++head) {
          const auto write = [&](bool is_value, int64_t offset) {
            kv->Write(*handle, layer, is_value, rank.heads.kv_begin + head, 0, plan.entries(layer),
                      static_cast<const std::byte*>(rank.at(offset)));
          };
          write(false, rank.layout.key_offset(layer, head, 0));
          write(true, rank.layout.value_offset(layer, head, 0));
        }
      }
    }
    return *handle;
  }

  RealClock clock;
  std::unique_ptr<ModelRanks> ranks;
  std::unique_ptr<PagedKv> kv;
  std::unique_ptr<FaultyCommunicator> faulty;
  std::unique_ptr<TensorParallelDecode> engine;
};

// A sequence on its way: what enters next follows from what was made.
struct Generation {
  int64_t handle = 0;
  int64_t prompt = 0;
  std::vector<int32_t> tokens;
  int64_t steps = 0;

  DecodeStepItem Next(const SamplingParams* sampling = &kGreedy) const {
    return {.handle = handle, .token = tokens[steps], .position = prompt + steps, .entries_added = steps,
            .sampling = sampling, .sample_index = steps + 1};
  }
};

Generation Start(PrefillFixture& prefill, Decoder& decoder, const std::vector<int32_t>& ids,
                 const SelectionOverrides& selection, int max_tokens) {
  const auto run = prefill.Prefill(ids, selection);
  EXPECT_TRUE(run.ok()) << run.status();
  return {decoder.Take(*run, max_tokens), static_cast<int64_t>(ids.size()), {ArgMax(run->output.logits)}};
}

// Runs all of them in one batch until each has `count` tokens.
void Generate(Decoder& decoder, std::vector<Generation*> generations, size_t count) {
  while (true) {
    std::vector<DecodeStepItem> items;
    std::vector<Generation*> active;
    for (Generation* g : generations) {
      if (g->tokens.size() >= count) continue;
      items.push_back(g->Next());
      active.push_back(g);
    }
    if (items.empty()) return;
    const auto drawn = decoder.engine->Step(items);
    ASSERT_TRUE(drawn.ok()) << drawn.status();
    for (size_t i = 0; i < active.size(); ++i) {
      ++active[i]->steps;
      active[i]->tokens.push_back((*drawn)[i]);
    }
  }
}

struct Ranks {
  int prefill, decode;
};
void PrintTo(const Ranks& r, std::ostream* os) { *os << r.prefill << " to " << r.decode << " ranks"; }

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
                         ::testing::Values(Ranks{1, 1}, Ranks{2, 1}, Ranks{1, 2}, Ranks{2, 4}, Ranks{4, 8},
                                           Ranks{8, 2}));

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
  Generation all[] = {Start(prefill, decoder, a.ids, {.policy = "full"}, 8), Start(prefill, decoder, b.ids, claa, 8),
                      Start(prefill, decoder, b.ids, {.policy = "full"}, 8), Start(prefill, decoder, a.ids, claa, 8)};
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
    g.tokens.assign(golden.full_tokens.begin(), golden.full_tokens.begin() + static_cast<int64_t>(forced));
    for (; g.steps + 1 < static_cast<int64_t>(forced); ++g.steps) {
      const auto drawn = decoder.engine->Step({g.Next(nullptr)});
      ASSERT_TRUE(drawn.ok()) << drawn.status();
      EXPECT_EQ(drawn->at(0), -1);  // nothing is drawn
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

TEST(DecodeEngineTest, AKvThatIsNotANumberIsInternalNotAToken) {
  PrefillFixture prefill({});
  Decoder decoder(2);
  const GoldenCase golden = LoadGoldenCase(0);
  const Generation g = Start(prefill, decoder, golden.ids, {.policy = "full"}, 8);
  const std::vector<float> row(64, std::numeric_limits<float>::quiet_NaN());
  decoder.kv->Write(g.handle, 3, true, 1, 20, 1, reinterpret_cast<const std::byte*>(row.data()));
  EXPECT_EQ(decoder.engine->Step({g.Next()}).status().code(), absl::StatusCode::kInternal);
}

TEST(DecodeEngineTest, RefusesToBeMadeOfNothing) {
  EXPECT_EQ(TensorParallelDecode::Create({}).status().code(), absl::StatusCode::kInvalidArgument);
  RealClock clock;
  const std::string model = std::string(WINNOW_SOURCE_DIR) + "/models/demo";
  for (int ranks : {-1, 0, 3}) {
    const auto loaded = LoadModelRanks({.model_dir = model, .tensor_parallel = ranks, .clock = &clock});
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << ranks;
  }
}

}  // namespace
}  // namespace winnow
