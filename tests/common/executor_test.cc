#include "common/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <set>

namespace winnow {
namespace {

using ::testing::ElementsAre;

TEST(ExecutorTest, OneThreadRunsTasksInOrder) {
  std::vector<int> order;
  {
    Executor executor("test", 1);
    for (int i = 0; i < 5; ++i) executor.Add([&order, i] { order.push_back(i); });
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(ExecutorTest, DestructorRunsWhatWasAddedAlsoByTasks) {
  std::atomic<int> ran{0};
  {
    Executor executor("a name longer than the kernel's limit", 3);
    for (int i = 0; i < 100; ++i) {
      executor.Add([&] {
        ++ran;
        executor.Add([&] { ++ran; });
      });
    }
  }
  EXPECT_EQ(ran, 200);
}

TEST(ExecutorTest, TasksRunAtTheSameTimeOnAllThreads) {
  constexpr int kThreads = 4;
  std::mutex mutex;
  std::condition_variable all_here;
  std::set<std::thread::id> threads;
  int met = 0;
  {
    Executor executor("meet", kThreads);
    for (int i = 0; i < kThreads; ++i) {
      executor.Add([&] {
        std::unique_lock<std::mutex> lock(mutex);
        threads.insert(std::this_thread::get_id());
        all_here.notify_all();
        if (all_here.wait_for(lock, std::chrono::seconds(30),
                              [&] { return threads.size() == kThreads; }))
          ++met;
      });
    }
  }
  EXPECT_EQ(met, kThreads);
}

TEST(ExecutorTest, TakesTasksFromManyThreads) {
  std::atomic<int> ran{0};
  {
    Executor executor("many", 2);
    std::vector<std::thread> adders;
    for (int t = 0; t < 4; ++t) {
      adders.emplace_back([&] {
        for (int i = 0; i < 500; ++i) executor.Add([&] { ++ran; });
      });
    }
    for (std::thread& adder : adders) adder.join();
  }
  EXPECT_EQ(ran, 2000);
}

}  // namespace
}  // namespace winnow
