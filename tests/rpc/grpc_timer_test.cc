#include "rpc/grpc_timer.h"

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(GrpcTimerTest, ACallbackRunsOnceItsDelayIsOver) {
  const auto begin = std::chrono::steady_clock::now();
  std::promise<void> ran;
  GrpcTimer().After(absl::Milliseconds(30), [&] { ran.set_value(); });
  ran.get_future().wait();
  // Delays end at the system clock's milliseconds.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(25));
}

TEST(GrpcTimerTest, ACallbackWithoutDelayNeverRunsInsideTheCall) {
  std::mutex mutex;
  for (int i = 0; i < 100; ++i) {
    std::promise<void> ran;
    {
      std::lock_guard<std::mutex> lock(mutex);  // inside the call it would wait for ever
      GrpcTimer().After(absl::ZeroDuration(), [&] {
        { std::lock_guard<std::mutex> its_own(mutex); }
        ran.set_value();
      });
    }
    ran.get_future().wait();
  }
}

TEST(GrpcTimerTest, WhatACallbackHoldsIsFreedWhenItHasRun) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = held;
  std::promise<void> ran;
  GrpcTimer().After(absl::ZeroDuration(), [held = std::move(held), &ran] { ran.set_value(); });
  ran.get_future().wait();
  while (!watched.expired()) std::this_thread::yield();
}

}  // namespace
}  // namespace winnow
