#include "router/request_queue.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const absl::Time kNow = absl::UnixEpoch();

RequestQueue::Entry Add(RequestQueue& queue, int priority,
                        absl::Time deadline = absl::InfiniteFuture()) {
  const RequestQueue::Entry entry = queue.MakeEntry(priority, kNow, deadline);
  queue.Add(entry);
  return entry;
}

std::vector<uint64_t> TakeAll(RequestQueue& queue) {
  std::vector<uint64_t> ids;
  while (const auto entry = queue.TakeFirst()) ids.push_back(entry->id);
  return ids;
}

TEST(RequestQueueTest, TheHighestPriorityIsFirstThenWhoCameFirst) {
  RequestQueue queue({});
  for (const int priority : {0, 1, 0, 2, 1}) Add(queue, priority);
  EXPECT_THAT(TakeAll(queue), ElementsAre(4, 2, 5, 1, 3));
}

TEST(RequestQueueTest, WhoComesBackHasItsOldPlace) {
  RequestQueue queue({});
  const RequestQueue::Entry first = Add(queue, 0);
  Add(queue, 0);
  EXPECT_EQ(queue.TakeFirst()->id, first.id);
  queue.Add(first);
  EXPECT_THAT(TakeAll(queue), ElementsAre(1, 2));
}

TEST(RequestQueueTest, AFullQueueGivesUpTheLastOfTheLowestPriority) {
  RequestQueue queue({.max_waiting = 2});
  Add(queue, 0);
  Add(queue, 1);
  EXPECT_EQ(queue.Add(queue.MakeEntry(0, kNow, kNow)), 3u);  // the newcomer itself
  EXPECT_EQ(queue.Add(queue.MakeEntry(1, kNow, kNow)), 1u);
  EXPECT_THAT(TakeAll(queue), ElementsAre(2, 4));
}

TEST(RequestQueueTest, WaitsForAShareOfTheTimeLeftAndNotTooLong) {
  RequestQueue queue({.wait_limit = {.max_wait = absl::Seconds(10), .deadline_share = 0.25}});
  EXPECT_EQ(queue.MakeEntry(0, kNow, kNow + absl::Seconds(8)).until, kNow + absl::Seconds(2));
  EXPECT_EQ(queue.MakeEntry(0, kNow, kNow + absl::Hours(1)).until, kNow + absl::Seconds(10));
  EXPECT_EQ(queue.MakeEntry(0, kNow, absl::InfiniteFuture()).until, kNow + absl::Seconds(10));
}

TEST(RequestQueueTest, GivesOutThoseWhoseTimeIsOver) {
  RequestQueue queue({});
  Add(queue, 0, kNow + absl::Seconds(4));
  Add(queue, 1, kNow + absl::Seconds(40));
  Add(queue, 2, kNow + absl::Seconds(4));
  EXPECT_THAT(queue.TakeLate(kNow), IsEmpty());
  EXPECT_THAT(queue.TakeLate(kNow + absl::Seconds(1)), ElementsAre(3, 1));
  EXPECT_EQ(queue.size(), 1u);
}

TEST(RequestQueueTest, KnowsWhetherANewcomerWouldStandBehindSomebody) {
  RequestQueue queue({});
  EXPECT_FALSE(queue.HasBefore(0));
  const RequestQueue::Entry entry = Add(queue, 1);
  EXPECT_TRUE(queue.HasBefore(0));
  EXPECT_TRUE(queue.HasBefore(1));
  EXPECT_FALSE(queue.HasBefore(2));
  queue.Remove(entry);
  EXPECT_FALSE(queue.HasBefore(0));
}

}  // namespace
}  // namespace winnow
