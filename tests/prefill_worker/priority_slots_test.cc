#include "prefill_worker/priority_slots.h"

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(PrioritySlotsTest, AnUrgentJobDoesNotWaitForOthersToEnd) {
  PrioritySlots slots;
  for (int i = 0; i < 2; ++i) slots.AddHolder(0);
  EXPECT_FALSE(slots.IsFree(0, /*max=*/2));
  EXPECT_FALSE(slots.IsFree(-1, 2));
  EXPECT_TRUE(slots.IsFree(1, 2));
  for (int i = 0; i < 2; ++i) slots.AddHolder(1);
  EXPECT_FALSE(slots.IsFree(1, 2));
  EXPECT_FALSE(slots.IsFree(2, 2));  // two times two in all
  slots.RemoveHolder(0);
  EXPECT_FALSE(slots.IsFree(0, 2));
  EXPECT_TRUE(slots.IsFree(2, 2));
}

TEST(PrioritySlotsTest, ANewcomerStandsBehindItsOwnAndHigherPriorities) {
  PrioritySlots slots;
  EXPECT_FALSE(slots.HasWaiter(0));
  slots.AddWaiter(0);
  EXPECT_TRUE(slots.HasWaiter(0));
  EXPECT_TRUE(slots.HasWaiter(-1));
  EXPECT_FALSE(slots.HasWaiter(1));
  slots.RemoveWaiter(0);
  EXPECT_FALSE(slots.HasWaiter(0));
}

}  // namespace
}  // namespace winnow
