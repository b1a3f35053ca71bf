#include "plan/head_split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

TEST(HeadSplitTest, RanksCoverQueryHeadsOnceAndShipEveryKvHeadOnce) {
  const ModelShape shape = DemoShape();  // 8 query, 4 KV heads
  for (int ranks : {1, 2, 4, 8}) {
    std::vector<int> queries(8, 0), shipped(4, 0);
    for (int rank = 0; rank < ranks; ++rank) {
      const auto split = SplitHeads(shape, ranks, rank);
      ASSERT_TRUE(split.ok()) << split.status();
      EXPECT_EQ(split->sharing_ranks, ranks <= 4 ? 1 : ranks / 4);
      for (int h = split->q_begin; h < split->q_begin + split->q_count; ++h) {
        ++queries[h];
        const int kv = h / 2;  // its KV head must be on the same rank
        EXPECT_GE(kv, split->kv_begin);
        EXPECT_LT(kv, split->kv_begin + split->kv_count);
      }
      for (int u = split->kv_begin; split->ships_kv && u < split->kv_begin + split->kv_count; ++u)
        ++shipped[u];
    }
    EXPECT_EQ(queries, std::vector<int>(8, 1)) << ranks;
    EXPECT_EQ(shipped, std::vector<int>(4, 1)) << ranks;
  }
}

TEST(HeadSplitTest, NeighboursShareAKvHeadWhenRanksOutnumberThem) {
  const HeadSplit first = *SplitHeads(DemoShape(), 8, 6);
  EXPECT_EQ(first, (HeadSplit{.kv_begin = 3,
                              .kv_count = 1,
                              .q_begin = 6,
                              .q_count = 1,
                              .sharing_ranks = 2,
                              .ships_kv = true}));
  const HeadSplit second = *SplitHeads(DemoShape(), 8, 7);
  EXPECT_EQ(second.kv_begin, 3);
  EXPECT_FALSE(second.ships_kv);
}

TEST(HeadSplitTest, RefusesNumbersThatDoNotDivide) {
  ModelShape shape = DemoShape();
  for (int ranks : {-1, 0, 3, 5, 16}) {
    const absl::Status status = SplitHeads(shape, ranks, 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << ranks;
    EXPECT_THAT(std::string(status.message()), HasSubstr("8 query heads"));
  }
  shape.num_q_heads = 24;
  shape.num_kv_heads = 8;
  EXPECT_FALSE(
      SplitHeads(shape, 6, 0).ok());  // divides 24, but neither divides 8 nor is a multiple of it
  EXPECT_TRUE(SplitHeads(shape, 24, 0).ok());
  EXPECT_FALSE(SplitHeads(shape, 2, 2).ok());
  EXPECT_FALSE(SplitHeads(shape, 2, -1).ok());
}

}  // namespace
}  // namespace winnow
