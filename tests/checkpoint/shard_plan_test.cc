#include "checkpoint/shard_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

TEST(ShardPlanTest, RanksCoverMlpAndVocabularyOnce) {
  for (int ranks : {1, 2, 4, 8}) {
    int64_t mlp = 0, vocab = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto plan = MakeShardPlan(DemoShape(), ranks, rank);
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_EQ(plan->tensor_parallel, ranks);
      EXPECT_EQ(plan->rank, rank);
      EXPECT_EQ(plan->mlp_begin, mlp);
      EXPECT_EQ(plan->vocab_begin, vocab);
      EXPECT_EQ(plan->heads, *SplitHeads(DemoShape(), ranks, rank));
      mlp += plan->mlp_count;
      vocab += plan->vocab_count;
    }
    EXPECT_EQ(mlp, 384);
    EXPECT_EQ(vocab, 4096);
  }
}

TEST(ShardPlanTest, SaysWhatDoesNotDivide) {
  ModelShape shape = DemoShape();
  EXPECT_THAT(std::string(MakeShardPlan(shape, 3, 0).status().message()),
              HasSubstr("8 query heads"));
  EXPECT_FALSE(MakeShardPlan(shape, 2, 2).ok());
  EXPECT_FALSE(MakeShardPlan(shape, 0, 0).ok());
  shape.intermediate = 383;
  EXPECT_THAT(std::string(MakeShardPlan(shape, 2, 0).status().message()),
              HasSubstr("MLP width of 383"));
  shape.intermediate = 384;
  shape.vocab_size = 4097;
  EXPECT_THAT(std::string(MakeShardPlan(shape, 2, 0).status().message()),
              HasSubstr("vocabulary of 4097"));
}

}  // namespace
}  // namespace winnow
