#include "prefill_worker/places.h"

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(PlacesTest, AnUrgentJobDoesNotWaitForOthersToEnd) {
  Places places;
  for (int i = 0; i < 2; ++i) places.AddHolder(0);
  EXPECT_FALSE(places.IsFree(0, /*max=*/2));
  EXPECT_FALSE(places.IsFree(-1, 2));
  EXPECT_TRUE(places.IsFree(1, 2));
  for (int i = 0; i < 2; ++i) places.AddHolder(1);
  EXPECT_FALSE(places.IsFree(1, 2));
  EXPECT_FALSE(places.IsFree(2, 2));  // two times two in all
  places.RemoveHolder(0);
  EXPECT_FALSE(places.IsFree(0, 2));
  EXPECT_TRUE(places.IsFree(2, 2));
}

TEST(PlacesTest, ANewcomerStandsBehindItsOwnAndHigherPriorities) {
  Places places;
  EXPECT_FALSE(places.HasWaiter(0));
  places.AddWaiter(0);
  EXPECT_TRUE(places.HasWaiter(0));
  EXPECT_TRUE(places.HasWaiter(-1));
  EXPECT_FALSE(places.HasWaiter(1));
  places.RemoveWaiter(0);
  EXPECT_FALSE(places.HasWaiter(0));
}

}  // namespace
}  // namespace winnow
