#include "transfer/peer_quota.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace winnow {
namespace {

using ::testing::HasSubstr;
constexpr auto kFull = absl::StatusCode::kResourceExhausted;

TEST(PeerQuotaTest, APeerHoldsNoMoreThanItsShareAndOthersAreFree) {
  PeerQuota quota({.reservations = 2, .bytes = 100});
  std::vector<PeerQuota::Share> held;
  held.push_back(*quota.Take("a", 60));
  const absl::Status bytes = quota.Take("a", 41).status();
  EXPECT_EQ(bytes.code(), kFull);
  EXPECT_THAT(std::string(bytes.message()), HasSubstr("a holds 60 bytes and wants 41 more"));
  held.push_back(*quota.Take("a", 40));
  const absl::Status count = quota.Take("a", 0).status();
  EXPECT_EQ(count.code(), kFull);
  EXPECT_THAT(std::string(count.message()), HasSubstr("a holds 2 reservations"));
  EXPECT_TRUE(quota.Take("b", 100).ok());
}

TEST(PeerQuotaTest, WhatGoesIsGivenBackOnce) {
  PeerQuota quota({.reservations = 1, .bytes = 10});
  std::optional<PeerQuota::Share> first = *quota.Take("a", 10);
  PeerQuota::Share moved = *std::move(first);
  first.reset();
  EXPECT_EQ(quota.Take("a", 1).status().code(), kFull);  // the moved one still holds it
  moved = PeerQuota::Share();
  EXPECT_TRUE(quota.Take("a", 10).ok());
}

TEST(PeerQuotaTest, ZeroIsNoLimit) {
  PeerQuota quota({});
  std::vector<PeerQuota::Share> held;
  for (int i = 0; i < 1000; ++i) {
    auto share = quota.Take("a", int64_t{1} << 40);
    ASSERT_TRUE(share.ok());
    held.push_back(*std::move(share));
  }
}

TEST(PeerQuotaTest, ManyThreadsNeverHoldMoreThanTheLimit) {
  PeerQuota quota({.reservations = 3});
  std::atomic<int> held{0}, most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto share = quota.Take("a", 1);
        if (!share.ok()) continue;
        const int now = ++held;
        int seen = most;
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        --held;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 3);
  EXPECT_GE(most, 1);
  std::vector<PeerQuota::Share> all;
  for (int i = 0; i < 3; ++i) all.push_back(*quota.Take("a", 1));  // nothing was lost
}

}  // namespace
}  // namespace winnow
