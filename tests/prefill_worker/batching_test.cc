#include "prefill_worker/batching.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

BatchCandidate Candidate(int64_t sequence, int64_t next_row, int64_t num_rows, int priority = 0) {
  BatchCandidate c;
  c.sequence = sequence;
  c.progress = {.next_row = next_row, .num_rows = num_rows};
  c.priority = priority;
  c.arrival = absl::UnixEpoch() + absl::Seconds(sequence);
  return c;
}

// "sequence:row_begin+row_count"
std::vector<std::string> Batch(const std::vector<BatchCandidate>& candidates, int64_t max_rows) {
  std::vector<std::string> out;
  for (const PrefillStepItem& item : MakeBatch(candidates, max_rows)) {
    out.push_back(std::to_string(item.sequence) + ":" + std::to_string(item.row_begin) + "+" +
                  std::to_string(item.row_count));
  }
  return out;
}

TEST(BatchingTest, OneSequenceGetsTheWholeStep) {
  EXPECT_THAT(Batch({Candidate(1, 100, 1000)}, 256), ElementsAre("1:100+256"));
  EXPECT_THAT(Batch({Candidate(1, 900, 1000)}, 256), ElementsAre("1:900+100"));
}

TEST(BatchingTest, SequencesShareEqually) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 10, 1000)}, 256),
              ElementsAre("1:0+128", "2:10+128"));
}

TEST(BatchingTest, WhatShorterOnesLeaveGoesToLongOnes) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 0, 40), Candidate(3, 0, 500)}, 256),
              ElementsAre("1:0+108", "2:0+40", "3:0+108"));
}

TEST(BatchingTest, AStepWithShortPromptsIsKeptSmall) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 0, 20), Candidate(3, 0, 30)}, 256),
              ElementsAre("1:0+16", "2:0+20", "3:0+30"));
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 0, 33)}, 256),
              ElementsAre("1:0+223", "2:0+33"));
  EXPECT_THAT(Batch({Candidate(1, 0, 20, 1), Candidate(2, 0, 1000)}, 256),
              ElementsAre("1:0+20", "2:0+16"));
}

TEST(BatchingTest, WhatASmallStepHasForLongOnesIsNotCutFurther) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 900, 1000), Candidate(3, 0, 20),
                     Candidate(4, 0, 1000)},
                    256),
              ElementsAre("2:900+16", "3:0+20"));
}

TEST(BatchingTest, TheEndOfALongPromptIsShort) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 980, 1000)}, 256),
              ElementsAre("1:0+16", "2:980+20"));
}

TEST(BatchingTest, ManyShortPromptsFillAStep) {
  std::vector<BatchCandidate> candidates = {Candidate(1, 0, 1000)};
  for (int i = 2; i <= 10; ++i) candidates.push_back(Candidate(i, 0, 30));
  EXPECT_THAT(Batch(candidates, 256), testing::SizeIs(10));
}

TEST(BatchingTest, AShortPromptOfLowerPriorityMakesNoStepSmall) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000, 1), Candidate(2, 0, 20)}, 256), ElementsAre("1:0+256"));
}

TEST(BatchingTest, HigherPriorityGoesFirst) {
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 0, 200, 1)}, 256),
              ElementsAre("1:0+56", "2:0+200"));
  EXPECT_THAT(Batch({Candidate(1, 0, 1000), Candidate(2, 0, 300, 1)}, 256), ElementsAre("2:0+256"));
}

TEST(BatchingTest, MoreSequencesThanRowsGetOneRowEach) {
  EXPECT_THAT(Batch({Candidate(1, 0, 9), Candidate(2, 0, 9), Candidate(3, 0, 9)}, 2),
              ElementsAre("1:0+1", "2:0+1"));
}

TEST(BatchingTest, NothingToDoIsAnEmptyStep) {
  EXPECT_THAT(Batch({}, 256), IsEmpty());
  BatchCandidate done = Candidate(1, 5, 5);
  done.progress = {.pass = 1};
  EXPECT_THAT(Batch({done}, 256), IsEmpty());
}

}  // namespace
}  // namespace winnow
