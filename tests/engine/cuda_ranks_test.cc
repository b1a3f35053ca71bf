// Ranks on GPUs, joined in every way that this machine allows: collectives, a rank that stays away,
// and the demo model's goldens through prefill and decode.
#include <algorithm>
#include <cmath>
#include <random>

#include "common/clock.h"
#include "engine/device/cuda_backend.h"
#include "engine/ranks/cuda_ranks.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/decode_fixture.h"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;

struct Joined {
  CudaPeers peers;
  int size;
  bool overlapped = false;  // all that can be in two parts
};
std::string Name(const Joined& joined) {
  const std::string way = joined.peers == CudaPeers::kOneGpu ? "one_gpu_"
                          : joined.peers == CudaPeers::kNccl ? "nccl_"
                                                             : "alone_";
  return way + std::to_string(joined.size) + (joined.overlapped ? "_overlapped" : "");
}

absl::Status Join(const Joined& joined, ModelRanks::Options& options) {
  if (joined.overlapped) options.min_overlap_elements = 1;
  return UseCuda(options, joined.peers);
}

class CudaRanksTest : public ::testing::TestWithParam<Joined> {
 protected:
  void SetUp() override {
    const int needed = GetParam().peers == CudaPeers::kOneGpu ? 1 : GetParam().size;
    if (NumCudaDevices() < needed) GTEST_SKIP() << "needs " << needed << " GPU(s)";
  }
  static absl::Status Use(ModelRanks::Options& options) { return Join(GetParam(), options); }
};

// Ranks without a model.
struct Gpus {
  explicit Gpus(const Joined& joined) : threads(joined.size, nullptr) {
    ModelRanks::Options options{
        .types = DType::kBf16, .tensor_parallel = joined.size, .clock = &clock};
    EXPECT_EQ(Join(joined, options), absl::OkStatus());
    for (int rank = 0; rank < joined.size; ++rank) {
      auto backend = options.make_backend(rank);
      EXPECT_TRUE(backend.ok()) << backend.status();
      backends.push_back(*std::move(backend));
    }
    auto made = options.make_communicators(backends);
    EXPECT_TRUE(made.ok()) << made.status();
    group = *std::move(made);
  }
  Deadline Soon(absl::Duration d = absl::Seconds(30)) const { return Deadline::After(clock, d); }

  using Collective = std::function<absl::Status(Communicator&, void* data)>;
  // Runs a collective on device memory that begins as `in`; gives back what came out.
  template <typename T>
  absl::StatusOr<std::vector<T>> Run(int rank, const std::vector<T>& in, Deadline deadline,
                                     const Collective& collective) {
    Backend& backend = *backends[rank];
    const size_t bytes = in.size() * sizeof(T);
    auto data = backend.Allocate(bytes);
    auto host = backend.AllocateHost(bytes);
    if (!data.ok() || !host.ok()) return absl::ResourceExhaustedError("no memory");
    std::copy(in.begin(), in.end(), host->template data<T>());
    backend.Copy(data->data(), host->data(), bytes);
    Communicator& communicator = group->communicator(rank);
    if (absl::Status status = collective(communicator, data->data()); !status.ok()) return status;
    backend.Copy(host->data(), data->data(), bytes);
    if (absl::Status done = backend.Record()->Wait(clock, deadline); !done.ok()) {
      communicator.Abort(done);  // its kernel waits for a peer
      return done;
    }
    return std::vector<T>(host->template data<T>(), host->template data<T>() + in.size());
  }

  // What the reader of a sum that is begun and joined adds up.
  std::vector<float> OverlappedSum(int rank, const std::vector<float>& mine) {
    const auto count = static_cast<int64_t>(mine.size());
    const int size = group->communicator(rank).size();
    std::vector<float> memory((size + 1) * count);  // the part, the inbox and the sum
    std::copy(mine.begin(), mine.end(), memory.begin());
    const auto done = Run(rank, memory, Soon(), [&](Communicator& c, void* data) -> absl::Status {
      auto* floats = static_cast<float*>(data);
      const Communicator::Sum sum{floats, floats + count, DType::kF32, count};
      if (absl::Status begun = c.BeginSum(sum, Soon()); !begun.ok()) return begun;
      const absl::StatusOr<Addends> addends = c.JoinSum(sum, Soon());
      if (!addends.ok()) return addends.status();
      backends[rank]->RmsNorm({.x = floats + size * count,
                               .delta = *addends,
                               .dtype = DType::kF32,
                               .rows = 1,
                               .hidden = static_cast<int>(count)});
      return absl::OkStatus();
    });
    EXPECT_EQ(done.status(), absl::OkStatus());
    if (!done.ok()) return {};
    return {done->end() - count, done->end()};
  }

  RealClock clock;
  RankGroup threads;
  std::vector<std::unique_ptr<Backend>> backends;
  std::unique_ptr<CommunicatorGroup> group;
};

TEST_P(CudaRanksTest, CollectivesAreExact) {
  Gpus gpus(GetParam());
  const int size = GetParam().size;
  const absl::Status status = gpus.threads.Run([&](int rank) -> absl::Status {
    for (const int64_t count : {1, 255, 257, 1000, 131073}) {
      std::vector<float> mine(count), sums(count), highest(count);
      std::vector<Bf16> mine_bf16(count), sums_bf16(count);
      const auto value = [](int r, int64_t i) {
        return static_cast<float>((i * 7 + r * 13) % 32 - 16);
      };
      for (int64_t i = 0; i < count; ++i) {
        mine[i] = value(rank, i);
        mine_bf16[i] = FromFloat<Bf16>(mine[i]);
        highest[i] = -INFINITY;
        for (int r = 0; r < size; ++r) {
          sums[i] += value(r, i);
          highest[i] = std::max(highest[i], value(r, i));
        }
        sums_bf16[i] = FromFloat<Bf16>(sums[i]);
      }
      const auto soon = gpus.Soon();
      const auto sum = gpus.Run(rank, mine, soon, [&](Communicator& c, void* data) {
        return c.AllReduceSum(data, DType::kF32, count, soon);
      });
      const auto max = gpus.Run(rank, mine, soon, [&](Communicator& c, void* data) {
        return c.AllReduceMax(static_cast<float*>(data), count, soon);
      });
      const auto sum_bf16 = gpus.Run(rank, mine_bf16, soon, [&](Communicator& c, void* data) {
        return c.AllReduceSum(data, DType::kBf16, count, soon);
      });
      // A rank's part of the gathered memory may lie in its own place.
      std::vector<float> gather(count * size, -1.0f), gathered;
      std::copy(mine.begin(), mine.end(), gather.begin() + rank * count);
      for (int r = 0; r < size; ++r) {
        for (int64_t i = 0; i < count; ++i) gathered.push_back(value(r, i));
      }
      const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
      const auto all = gpus.Run(rank, gather, soon, [&](Communicator& c, void* data) {
        return c.AllGather(static_cast<std::byte*>(data) + rank * bytes, data, bytes, soon);
      });
      for (const absl::Status& each :
           {sum.status(), max.status(), sum_bf16.status(), all.status()}) {
        if (!each.ok()) return each;
      }
      EXPECT_EQ(*sum, sums) << count;
      if (count <= 1000) {
        EXPECT_EQ(gpus.OverlappedSum(rank, mine), sums) << count;
      }
      EXPECT_EQ(*max, highest) << count;
      EXPECT_EQ(*all, gathered) << count;
      for (int64_t i = 0; i < count; ++i) {
        EXPECT_EQ(ToFloat((*sum_bf16)[i]), ToFloat(sums_bf16[i])) << i;
      }
    }
    return absl::OkStatus();
  });
  EXPECT_EQ(status, absl::OkStatus());
}

TEST_P(CudaRanksTest, ARankThatStaysAwayIsADeadlineAndResetMends) {
  if (GetParam().size < 2) GTEST_SKIP() << "nobody can stay away";
  Gpus gpus(GetParam());
  const auto reduce = [&](int rank, absl::Duration within) {
    const Deadline deadline = gpus.Soon(within);
    return gpus
        .Run(rank, std::vector<float>(1000, 1.0f), deadline,
             [&](Communicator& c, void* data) {
               return c.AllReduceMax(static_cast<float*>(data), 1000, deadline);
             })
        .status();
  };
  const absl::Time begin = gpus.clock.Now();
  const absl::Status status = gpus.threads.Run(
      [&](int rank) { return rank == 1 ? absl::OkStatus() : reduce(rank, absl::Seconds(2)); });
  EXPECT_FALSE(status.ok());
  EXPECT_LT(gpus.clock.Now() - begin, absl::Seconds(20));
  ASSERT_EQ(gpus.group->Reset(), absl::OkStatus());
  EXPECT_EQ(gpus.threads.Run([&](int rank) { return reduce(rank, absl::Seconds(30)); }),
            absl::OkStatus());
}

TEST_P(CudaRanksTest, PrefillAgreesWithTheGoldens) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    PrefillFixture fixture({.tensor_parallel = GetParam().size, .dtype = dtype, .use_device = Use});
    for (const int index : {0, 1}) {
      const GoldenCase golden = LoadGoldenCase(index);
      for (const GoldenCase::Claa& claa : golden.claa) {
        const auto run =
            fixture.Prefill(golden.ids, {.policy = "claa", .keep_ratio = claa.keep_ratio});
        ASSERT_TRUE(run.ok()) << run.status();
        EXPECT_EQ(ArgMax(run->output.logits), claa.tokens[0]);
        if (dtype == DType::kBf16) continue;
        EXPECT_THAT(DifferencesAwayFromTheCut(claa.kept_positions, run->output.kept_positions,
                                              golden.selection_scores, 2e-4),
                    IsEmpty());
      }
    }
  }
}

TEST_P(CudaRanksTest, FamiliesAgreeWithTheGoldens) {
  for (const std::string& model : GoldenModels()) {
    SCOPED_TRACE(model);
    const std::vector<int> splits = GoldenSplits(model);
    if (std::count(splits.begin(), splits.end(), GetParam().size) == 0) continue;
    PrefillFixture fixture({.model_dir = GoldenModelFolder(model),
                            .tensor_parallel = GetParam().size,
                            .use_device = Use});
    for (const ModelPrompt& prompt : LoadModelPrompts(model)) {
      const auto run = fixture.Prefill(prompt.ids, {.policy = "full"});
      ASSERT_TRUE(run.ok()) << run.status();
      EXPECT_LE(RelativeDifference(run->output.logits, prompt.logits), 2e-3);
    }
  }
}

// A step whose ranks chose different tokens fails: they compare digests.
TEST_P(CudaRanksTest, RanksSelectAlikeOverAThousandRandomRequests) {
  if (GetParam().size < 2) GTEST_SKIP() << "nobody to differ from";
  PrefillFixture fixture(
      {.tensor_parallel = GetParam().size, .dtype = DType::kBf16, .use_device = Use});
  std::mt19937 random(5);
  for (int request = 0; request < 1000; ++request) {
    std::vector<int32_t> ids(32 + random() % 480);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % fixture.config().shape.vocab_size);
    const double keep = 0.05 + 0.9 * static_cast<double>(random() % 1000) / 1000;
    const auto run = fixture.Prefill(ids, {.policy = "claa", .keep_ratio = keep});
    ASSERT_TRUE(run.ok()) << request << ": " << run.status();
    ASSERT_EQ(run->output.kept_positions.size(), run->staging->plan.segments.back().entries);
  }
}

// Several steps of each batch size, so that what a GPU records of a step is played, too.
TEST_P(CudaRanksTest, DecodeAgreesWithTheGoldens) {
  PrefillFixture prefill({.tensor_parallel = GetParam().size, .use_device = Use});
  Decoder decoder(GetParam().size, DType::kF32, 8, absl::Seconds(60), PrefillFixture::DemoModel(),
                  Use);
  const GoldenCase a = LoadGoldenCase(0), b = LoadGoldenCase(1);
  const int max_tokens = 8;
  const SelectionOverrides claa{.policy = "claa", .keep_ratio = a.claa[0].keep_ratio};
  Generation all[] = {Start(prefill, decoder, a.ids, {.policy = "full"}, max_tokens),
                      Start(prefill, decoder, b.ids, claa, max_tokens),
                      Start(prefill, decoder, b.ids, {.policy = "full"}, max_tokens),
                      Start(prefill, decoder, a.ids, claa, max_tokens)};
  Generate(decoder, {&all[0]}, 5);
  Generate(decoder, {&all[1], &all[0]}, max_tokens);  // rows change hands
  Generate(decoder, {&all[3], &all[2]}, max_tokens);
  EXPECT_EQ(all[0].tokens, a.full_tokens);
  EXPECT_EQ(all[1].tokens, b.claa[0].tokens);
  EXPECT_EQ(all[2].tokens, b.full_tokens);
  EXPECT_EQ(all[3].tokens, a.claa[0].tokens);
}

INSTANTIATE_TEST_SUITE_P(Ways, CudaRanksTest,
                         ::testing::Values(Joined{CudaPeers::kAuto, 1}, Joined{CudaPeers::kNccl, 1},
                                           Joined{CudaPeers::kNccl, 2}, Joined{CudaPeers::kNccl, 4},
                                           Joined{CudaPeers::kNccl, 2, /*overlapped=*/true},
                                           Joined{CudaPeers::kNccl, 4, /*overlapped=*/true},
                                           Joined{CudaPeers::kOneGpu, 1},
                                           Joined{CudaPeers::kOneGpu, 2},
                                           Joined{CudaPeers::kOneGpu, 4},
                                           Joined{CudaPeers::kOneGpu, 2, /*overlapped=*/true},
                                           Joined{CudaPeers::kOneGpu, 4, /*overlapped=*/true}),
                         [](const auto& info) { return Name(info.param); });

}  // namespace
}  // namespace winnow
