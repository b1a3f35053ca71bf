#include "transfer/rank_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace winnow {
namespace {

using ::testing::ElementsAre;

constexpr int kSizes[] = {1, 2, 4, 8};

ModelShape ShapeWithKvHeads(int num_kv_heads) {
  return {.num_layers = 2, .num_q_heads = 8, .num_kv_heads = num_kv_heads, .head_dim = 4};
}

TEST(RankMapTest, EveryHeadIsSentByOneRankAndStoredByAllThatHoldIt) {
  for (int kv_heads : {1, 2, 4, 8}) {
    const ModelShape shape = ShapeWithKvHeads(kv_heads);
    for (int source : kSizes) {
      const auto senders = SendingRanks(shape, source);
      ASSERT_TRUE(senders.ok()) << senders.status();
      std::vector<int> times_sent(kv_heads);
      for (int rank : *senders) {
        const HeadSplit split = *SplitHeads(shape, source, rank);
        for (int i = 0; i < split.kv_count; ++i) ++times_sent[split.kv_begin + i];
      }
      EXPECT_THAT(times_sent, ::testing::Each(1))
          << kv_heads << " heads from " << source << " ranks";
      // The shared row of positions has one sender too: the one of head 0.
      EXPECT_EQ(senders->front(), 0);
    }
    for (int target : kSizes) {
      std::vector<int> heads_stored(target);
      for (int head = 0; head < kv_heads; ++head) {
        const auto storing = StoringRanks(shape, target, head);
        ASSERT_TRUE(storing.ok()) << storing.status();
        EXPECT_EQ(storing->size(), static_cast<size_t>(std::max(1, target / kv_heads)));
        for (int rank : *storing) ++heads_stored[rank];
      }
      EXPECT_THAT(heads_stored, ::testing::Each(std::max(1, kv_heads / target)))
          << kv_heads << " heads to " << target << " ranks";
    }
  }
}

TEST(RankMapTest, RanksThatShareAHeadSendItOnce) {
  EXPECT_THAT(*SendingRanks(ShapeWithKvHeads(2), 8), ElementsAre(0, 4));
  EXPECT_THAT(*SendingRanks(ShapeWithKvHeads(4), 8), ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(*StoringRanks(ShapeWithKvHeads(2), 8, 1), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(*StoringRanks(ShapeWithKvHeads(8), 2, 3), ElementsAre(0));
}

TEST(RankMapTest, ASizeThatDoesNotDivideTheHeadsIsInvalid) {
  EXPECT_EQ(SendingRanks(ShapeWithKvHeads(4), 3).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(StoringRanks(ShapeWithKvHeads(4), 16, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(RankMapTest, NobodyStoresAHeadThatDoesNotExist) {
  EXPECT_THAT(*StoringRanks(ShapeWithKvHeads(4), 2, 4), ElementsAre());
}

}  // namespace
}  // namespace winnow
