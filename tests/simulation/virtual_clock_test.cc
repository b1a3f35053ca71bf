#include "tests/simulation/virtual_clock.h"

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;

TEST(VirtualClockTest, EventsRunInOrderOfTimeThenOfBeingAdded) {
  VirtualClock clock;
  const absl::Time begin = clock.Now();
  std::vector<std::string> ran;
  clock.After(absl::Seconds(2), [&] { ran.push_back("late"); });
  clock.After(absl::Seconds(1), [&] {
    ran.push_back("first");
    clock.After(absl::ZeroDuration(), [&] { ran.push_back("third"); });
  });
  clock.After(absl::Seconds(1), [&] { ran.push_back("second"); });
  clock.RunUntil(begin + absl::Milliseconds(1500));
  EXPECT_THAT(ran, ElementsAre("first", "second", "third"));
  EXPECT_EQ(clock.Now(), begin + absl::Milliseconds(1500));
}

TEST(VirtualClockTest, AThreadSleepsWhileOthersGoOn) {
  VirtualClock clock;
  const absl::Time begin = clock.Now();
  std::vector<std::string> ran;
  std::thread worker([&] {
    clock.Sleep(absl::Seconds(3));
    ran.push_back(absl::FormatDuration(clock.Now() - begin));
    clock.Sleep(absl::Hours(1000));
  });
  clock.AwaitThreads(1);
  clock.After(absl::Seconds(2), [&] { ran.push_back("event"); });
  clock.RunUntil(begin + absl::Seconds(5));
  EXPECT_THAT(ran, ElementsAre("event", "3s"));
  clock.Release();
  worker.join();
}

TEST(VirtualClockTest, AWaitEndsWithItsConditionOrItsTime) {
  VirtualClock clock;
  const absl::Time begin = clock.Now();
  std::mutex mutex;
  std::condition_variable wake;
  bool flag = false;
  std::vector<std::string> ran;
  std::thread worker([&] {
    std::unique_lock<std::mutex> lock(mutex);
    clock.WaitFor(wake, lock, absl::Seconds(1), [&] { return flag; });
    ran.push_back(absl::FormatDuration(clock.Now() - begin));
    clock.WaitFor(wake, lock, absl::Seconds(10), [&] { return flag; });
    ran.push_back(absl::FormatDuration(clock.Now() - begin));
    lock.unlock();
    clock.Sleep(absl::Hours(1));
  });
  clock.AwaitThreads(1);
  clock.After(absl::Seconds(4), [&] {
    std::lock_guard<std::mutex> lock(mutex);
    flag = true;
  });
  clock.RunUntil(begin + absl::Seconds(20));
  EXPECT_THAT(ran, ElementsAre("1s", "4s"));
  clock.Release();
  worker.join();
}

TEST(VirtualClockTest, ThreadsTakeTurnsInTheSameOrderEveryTime) {
  std::vector<std::string> runs;
  for (int run = 0; run < 5; ++run) {
    VirtualClock clock;
    std::string order;  // unguarded: only one thread runs at a time
    std::vector<std::thread> workers;
    for (int i = 0; i < 4; ++i) {
      workers.emplace_back([&clock, &order, i] {
        for (int turn = 0; turn < 50; ++turn) {
          clock.Sleep(absl::Milliseconds(i + 1));
          order += static_cast<char>('a' + i);
        }
        clock.Sleep(absl::Hours(1));
      });
      clock.AwaitThreads(i + 1);
    }
    clock.RunUntil(clock.Now() + absl::Seconds(1));
    EXPECT_EQ(order.size(), 200u);
    runs.push_back(order);
    clock.Release();
    for (std::thread& worker : workers) worker.join();
  }
  for (const std::string& order : runs) EXPECT_EQ(order, runs[0]);
}

}  // namespace
}  // namespace winnow
