#include "engine/kv/paged_kv.h"

#include <atomic>
#include <cstring>
#include <numeric>
#include <random>
#include <set>
#include <thread>

#include "engine/device/ref_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/wait_until.h"

namespace winnow {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kHeadDim = 4;

ModelShape Shape(int num_layers, int num_kv_heads) {
  return {.num_layers = num_layers,
          .hidden = 32,
          .num_q_heads = 8,
          .num_kv_heads = num_kv_heads,
          .head_dim = kHeadDim,
          .intermediate = 32,
          .vocab_size = 64,
          .max_context = 4096};
}

// Layer 0 keeps `prompt` entries, later ones `kept` of them.
KvPlan Plan(const ModelShape& shape, int64_t prompt, int64_t kept) {
  KvPlan plan = EmptyKvPlan(shape, prompt);
  plan.segments = {{1, KvForm::kAll, prompt}, {shape.num_layers - 1, KvForm::kSelected, kept}};
  return plan;
}

class Pool {
 public:
  Pool(const ModelShape& shape, int tensor_parallel, int64_t num_blocks, int block_size = 16,
       bool zero_freed = true, bool zero_in_background = false)
      : shape(shape) {
    PagedKv::Options options{.shape = shape,
                             .block_size = block_size,
                             .num_blocks = num_blocks,
                             .zero_freed = zero_freed,
                             .zero_in_background = zero_in_background};
    for (int rank = 0; rank < tensor_parallel; ++rank) {
      backends_.push_back(std::make_unique<RefBackend>(DType::kF32));
      options.backends.push_back(backends_.back().get());
    }
    auto made = PagedKv::Create(options);
    EXPECT_TRUE(made.ok()) << made.status();
    kv = *std::move(made);
  }
  int num_ranks() const { return static_cast<int>(backends_.size()); }
  HeadSplit heads(int rank) const { return *SplitHeads(shape, num_ranks(), rank); }

  // One entry of a head, as a rank holds it: [head_dim].
  float* Entry(int rank, int32_t block, bool is_value, int local_head, int in_block) const {
    float* pool = static_cast<float*>(is_value ? kv->v_blocks(rank) : kv->k_blocks(rank));
    return pool +
           ((int64_t{block} * heads(rank).kv_count + local_head) * kv->block_size() + in_block) *
               kHeadDim;
  }
  float* Slot(int rank, int64_t handle, int layer, bool is_value, int local_head,
              int64_t slot) const {
    const int32_t block = kv->Find(handle)->blocks[layer][slot / kv->block_size()];
    return Entry(rank, block, is_value, local_head, static_cast<int>(slot % kv->block_size()));
  }
  // Writes rows that name their place, in runs of `run` slots.
  void WriteAll(int64_t handle, float sign, int64_t run) {
    const KvPlan plan = kv->Find(handle)->plan;
    for (int layer = 0; layer < shape.num_layers; ++layer) {
      for (bool is_value : {false, true}) {
        for (int head = 0; head < shape.num_kv_heads; ++head) {
          for (int64_t begin = 0; begin < plan.entries(layer); begin += run) {
            const int64_t count = std::min(run, plan.entries(layer) - begin);
            std::vector<float> rows;
            for (int64_t slot = begin; slot < begin + count; ++slot) {
              for (int d = 0; d < kHeadDim; ++d)
                rows.push_back(sign * Value(layer, is_value, head, slot, d));
            }
            kv->Write(handle, layer, is_value, head, begin, count,
                      reinterpret_cast<const std::byte*>(rows.data()));
          }
        }
      }
    }
  }
  // Entries on any rank that are not what WriteAll wrote.
  int64_t CountWrong(int64_t handle, float sign) const {
    const KvPlan plan = kv->Find(handle)->plan;
    int64_t wrong = 0;
    for (int rank = 0; rank < num_ranks(); ++rank) {
      for (int layer = 0; layer < shape.num_layers; ++layer) {
        for (bool is_value : {false, true}) {
          for (int local = 0; local < heads(rank).kv_count; ++local) {
            for (int64_t slot = 0; slot < plan.entries(layer); ++slot) {
              const float* row = Slot(rank, handle, layer, is_value, local, slot);
              for (int d = 0; d < kHeadDim; ++d) {
                wrong +=
                    row[d] != sign * Value(layer, is_value, heads(rank).kv_begin + local, slot, d);
              }
            }
          }
        }
      }
    }
    return wrong;
  }
  std::vector<float> BlockContents(int rank, int32_t block) const {
    const int64_t floats = int64_t{heads(rank).kv_count} * kv->block_size() * kHeadDim;
    std::vector<float> all(Entry(rank, block, false, 0, 0),
                           Entry(rank, block, false, 0, 0) + floats);
    all.insert(all.end(), Entry(rank, block, true, 0, 0), Entry(rank, block, true, 0, 0) + floats);
    return all;
  }

  const ModelShape shape;
  std::unique_ptr<PagedKv> kv;

 private:
  static float Value(int layer, bool is_value, int head, int64_t slot, int d) {
    return static_cast<float>(1 + d + 10 * (head + 10 * (is_value + 2 * (layer + 10 * slot))));
  }
  std::vector<std::unique_ptr<RefBackend>> backends_;
};

std::vector<int32_t> BlocksOf(const PagedKv& kv, int64_t handle) {
  std::vector<int32_t> all;
  for (const auto& blocks : kv.Find(handle)->blocks)
    all.insert(all.end(), blocks.begin(), blocks.end());
  return all;
}

TEST(PagedKvTest, ReservesExactlyTheBlocksThatEveryLayerNeeds) {
  const ModelShape shape = Shape(3, 2);
  struct Row {
    int64_t prompt, kept, extra;
    std::vector<size_t> blocks;
  };
  const Row rows[] = {
      {40, 20, 3, {3, 2, 2}}, {16, 16, 0, {1, 1, 1}},         {16, 16, 1, {2, 2, 2}},
      {32, 15, 0, {2, 1, 1}}, {33, 15, 1, {3, 1, 1}},         {32, 15, 2, {3, 2, 2}},
      {1, 1, 0, {1, 1, 1}},   {1000, 100, 255, {79, 23, 23}},
  };
  for (const Row& row : rows) {
    Pool pool(shape, 1, 200);
    const auto handle = pool.kv->Reserve(Plan(shape, row.prompt, row.kept), row.extra);
    ASSERT_TRUE(handle.ok()) << handle.status();
    std::vector<size_t> got;
    for (const auto& blocks : pool.kv->Find(*handle)->blocks) got.push_back(blocks.size());
    EXPECT_EQ(got, row.blocks) << row.prompt << "/" << row.kept << " + " << row.extra;
    EXPECT_EQ(pool.kv->free_blocks(), 200 - std::accumulate(got.begin(), got.end(), int64_t{0}));
  }
}

TEST(PagedKvTest, RefusesWhatDoesNotFitWithNumbersAndTakesNothing) {
  const ModelShape shape = Shape(2, 1);
  Pool pool(shape, 1, 10);
  const auto first = pool.kv->Reserve(Plan(shape, 48, 48), 0);  // 6
  ASSERT_TRUE(first.ok());
  const auto refused = pool.kv->Reserve(Plan(shape, 48, 17), 0);  // 5
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()),
              AllOf(HasSubstr("5 blocks of 16"), HasSubstr("4 of 10 are free")));
  EXPECT_EQ(pool.kv->free_blocks(), 4);
  const auto fits = pool.kv->Reserve(Plan(shape, 48, 16), 0);  // 4: to the last block
  ASSERT_TRUE(fits.ok()) << fits.status();
  EXPECT_EQ(pool.kv->free_blocks(), 0);
}

TEST(PagedKvTest, RefusesAPlanForAnotherShape) {
  const ModelShape shape = Shape(2, 2);
  Pool pool(shape, 1, 10);
  for (const ModelShape& other : {Shape(3, 2), Shape(2, 4)}) {
    EXPECT_EQ(pool.kv->Reserve(Plan(other, 4, 4), 0).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(pool.kv->Reserve(Plan(shape, 4, 4), -1).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(PagedKvTest, RefusesToBeMadeOfNothing) {
  RefBackend backend(DType::kF32);
  const PagedKv::Options good{.shape = Shape(2, 2), .backends = {&backend}, .num_blocks = 1};
  ASSERT_TRUE(PagedKv::Create(good).ok());
  for (int64_t num_blocks : {int64_t{0}, int64_t{-1}, int64_t{1} << 31}) {
    PagedKv::Options bad = good;
    bad.num_blocks = num_blocks;
    EXPECT_EQ(PagedKv::Create(bad).status().code(), absl::StatusCode::kInvalidArgument)
        << num_blocks;
  }
  for (int block_size : {0, -16, 1 << 20}) {
    PagedKv::Options bad = good;
    bad.block_size = block_size;
    EXPECT_EQ(PagedKv::Create(bad).status().code(), absl::StatusCode::kInvalidArgument)
        << block_size;
  }
}

TEST(PagedKvTest, ScatteredFreeBlocksServeALargeSequence) {
  const ModelShape shape = Shape(1, 1);
  Pool pool(shape, 1, 64);
  std::vector<int64_t> handles;
  for (int i = 0; i < 64; ++i) handles.push_back(*pool.kv->Reserve(Plan(shape, 16, 16), 0));
  EXPECT_FALSE(pool.kv->Reserve(Plan(shape, 1, 1), 0).ok());
  std::set<int32_t> freed;
  for (int i = 0; i < 64; i += 2) {  // no two neighbours
    freed.insert(BlocksOf(*pool.kv, handles[i])[0]);
    pool.kv->Free(handles[i]);
  }
  const int64_t large = *pool.kv->Reserve(Plan(shape, 32 * 16, 32 * 16), 0);
  const std::vector<int32_t> blocks = BlocksOf(*pool.kv, large);
  EXPECT_EQ(std::set<int32_t>(blocks.begin(), blocks.end()), freed);
  pool.WriteAll(large, 1, 7);
  EXPECT_EQ(pool.CountWrong(large, 1), 0);
}

TEST(PagedKvTest, NoBlockIsHeldTwiceAndFreeingGivesAllBack) {
  const ModelShape shape = Shape(3, 2);
  Pool pool(shape, 2, 150);
  std::mt19937 random(7);
  std::set<int64_t> live;
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    if (random() % 2 == 0 || live.empty()) {
      const int64_t prompt = 1 + random() % 200;
      const auto handle =
          pool.kv->Reserve(Plan(shape, prompt, 1 + random() % prompt), random() % 40);
      refused += !handle.ok();
      if (handle.ok()) live.insert(*handle);
    } else {
      auto it = std::next(live.begin(), random() % live.size());
      pool.kv->Free(*it);
      pool.kv->Free(*it);  // idempotent
      live.erase(it);
    }
    std::set<int32_t> held;
    size_t count = 0;
    for (int64_t handle : live) {
      for (int32_t block : BlocksOf(*pool.kv, handle))
        count += held.insert(block).second ? 1 : 1000;
    }
    ASSERT_EQ(static_cast<int64_t>(count) + pool.kv->free_blocks(), 150) << "round " << round;
  }
  EXPECT_GT(refused, 0);  // the pool was full at times
  for (int64_t handle : live) pool.kv->Free(handle);
  EXPECT_EQ(pool.kv->free_blocks(), pool.kv->total_blocks());
}

class PagedKvRanksTest : public ::testing::TestWithParam<int> {};

TEST_P(PagedKvRanksTest, EveryHeadLandsOnAllRanksThatHoldIt) {
  const ModelShape shape = Shape(3, 2);  // T = 4 and 8 share a head among 2 and 4 ranks
  for (int64_t run : {1, 5, 16, 1000}) {
    Pool pool(shape, GetParam(), 40);
    const int64_t first = *pool.kv->Reserve(Plan(shape, 40, 20), 3);
    const int64_t second = *pool.kv->Reserve(Plan(shape, 33, 33), 0);
    pool.WriteAll(first, 1, run);
    pool.WriteAll(second, -1, run);
    EXPECT_EQ(pool.CountWrong(first, 1), 0) << "runs of " << run;
    EXPECT_EQ(pool.CountWrong(second, -1), 0) << "runs of " << run;
  }
}

TEST_P(PagedKvRanksTest, BlockBytesIsWhatTheRanksTakeTogether) {
  for (int kv_heads : {1, 2, 4, 8}) {
    const ModelShape shape = Shape(3, kv_heads);
    int64_t bytes = 0;
    for (int rank = 0; rank < GetParam(); ++rank) {
      bytes += 2 * int64_t{SplitHeads(shape, GetParam(), rank)->kv_count} * 16 * kHeadDim * 4;
    }
    EXPECT_EQ(PagedKv::BlockBytes(shape, GetParam(), 16, 4), bytes) << kv_heads << " heads";
  }
}

TEST_P(PagedKvRanksTest, FreedBlocksAreZeroOnEveryRankAndOthersAreUntouched) {
  const ModelShape shape = Shape(3, 2);
  Pool pool(shape, GetParam(), 40);
  const int64_t gone = *pool.kv->Reserve(Plan(shape, 40, 20), 3);
  const int64_t stays = *pool.kv->Reserve(Plan(shape, 40, 20), 3);
  pool.WriteAll(gone, 1, 16);
  pool.WriteAll(stays, -1, 16);
  const std::vector<int32_t> blocks = BlocksOf(*pool.kv, gone);
  for (int32_t block : blocks) {  // what decode steps would append
    for (int rank = 0; rank < GetParam(); ++rank) *pool.Entry(rank, block, true, 0, 15) = 9.0f;
  }
  pool.kv->Free(gone);
  for (int rank = 0; rank < GetParam(); ++rank) {
    for (int32_t block : blocks)
      EXPECT_THAT(pool.BlockContents(rank, block), Each(0.0f)) << "rank " << rank;
  }
  EXPECT_EQ(pool.CountWrong(stays, -1), 0);
}

INSTANTIATE_TEST_SUITE_P(TensorParallel, PagedKvRanksTest, ::testing::Values(1, 2, 4, 8));

TEST(PagedKvTest, BlocksThatAreZeroedInTheBackgroundAreZeroWhenTheyAreFreeAgain) {
  const ModelShape shape = Shape(3, 2);
  Pool pool(shape, 2, 40, 16, /*zero_freed=*/true, /*zero_in_background=*/true);
  const int64_t handle = *pool.kv->Reserve(Plan(shape, 40, 20), 3);
  pool.WriteAll(handle, 1, 16);
  const std::vector<int32_t> blocks = BlocksOf(*pool.kv, handle);
  pool.kv->Free(handle);
  EXPECT_EQ(pool.kv->Find(handle), nullptr);  // at once
  EXPECT_TRUE(WaitUntil([&] { return pool.kv->free_blocks() == 40; }));
  for (int32_t block : blocks) {
    for (int rank = 0; rank < 2; ++rank) {
      EXPECT_THAT(pool.BlockContents(rank, block), Each(0.0f)) << "rank " << rank;
    }
  }
}

TEST(PagedKvTest, ZeroingCanBeSwitchedOff) {
  const ModelShape shape = Shape(1, 1);
  Pool pool(shape, 1, 4, 16, /*zero_freed=*/false);
  const int64_t handle = *pool.kv->Reserve(Plan(shape, 16, 16), 0);
  pool.WriteAll(handle, 1, 16);
  const int32_t block = BlocksOf(*pool.kv, handle)[0];
  const std::vector<float> before = pool.BlockContents(0, block);
  pool.kv->Free(handle);
  EXPECT_EQ(pool.BlockContents(0, block), before);
  EXPECT_EQ(pool.kv->free_blocks(), 4);
}

TEST(PagedKvTest, AFreedHandleIsNotFoundAndWritesToItAreDropped) {
  const ModelShape shape = Shape(1, 1);
  Pool pool(shape, 1, 1);
  const int64_t old = *pool.kv->Reserve(Plan(shape, 16, 16), 0);
  pool.kv->Free(old);
  EXPECT_EQ(pool.kv->Find(old), nullptr);
  const int64_t next = *pool.kv->Reserve(Plan(shape, 16, 16), 0);  // the same block
  EXPECT_NE(next, old);
  pool.WriteAll(next, 1, 16);
  const std::vector<float> row(kHeadDim, 77.0f);
  pool.kv->Write(old, 0, false, 0, 3, 1, reinterpret_cast<const std::byte*>(row.data()));
  EXPECT_EQ(pool.CountWrong(next, 1), 0);
}

TEST(PagedKvTest, ThreadsWriteAndFreeSequencesBesideEachOther) {
  const ModelShape shape = Shape(2, 2);
  Pool pool(shape, 2, 60);
  std::atomic<int64_t> wrong{0}, done{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int round = 0; round < 60; ++round) {
        const int64_t prompt = 1 + random() % 100;
        const auto handle =
            pool.kv->Reserve(Plan(shape, prompt, 1 + random() % prompt), random() % 8);
        if (!handle.ok()) continue;
        pool.WriteAll(*handle, static_cast<float>(t + 1), 1 + random() % 20);
        wrong += pool.CountWrong(*handle, static_cast<float>(t + 1));
        pool.kv->Free(*handle);
        ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(done, 0);
  EXPECT_EQ(pool.kv->free_blocks(), 60);
}

}  // namespace
}  // namespace winnow
