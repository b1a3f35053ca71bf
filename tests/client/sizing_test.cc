#include "client/cli/sizing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <random>

namespace winnow {
namespace {

using ::testing::HasSubstr;

constexpr double kQuantile = 0.99;
constexpr double kGib = 1 << 30;

// The wait, at the quantile, of requests that go to the first of `workers` that is free.
double SimulatedWait(const SizedLoad& load, int workers) {
  constexpr int kRequests = 300'000;
  std::mt19937_64 random(7);
  std::exponential_distribution<double> gap(load.rate);
  std::vector<double> shares;
  for (const RequestClass& c : load.classes) shares.push_back(c.share);
  std::discrete_distribution<size_t> draw(shares.begin(), shares.end());
  std::priority_queue<double, std::vector<double>, std::greater<>> free_at;
  for (int i = 0; i < workers; ++i) free_at.push(0);
  std::vector<double> waits;
  double now = 0;
  for (int i = 0; i < kRequests; ++i) {
    now += gap(random);
    const double begin = std::max(now, free_at.top());
    free_at.pop();
    free_at.push(begin + load.classes[draw(random)].prefill_seconds);
    waits.push_back(begin - now);
  }
  const auto at = waits.begin() + static_cast<int64_t>(kQuantile * kRequests);
  std::nth_element(waits.begin(), at, waits.end());
  return *at;
}

TEST(SizingTest, TheTimeToFirstTokenIsThatOfASimulatedQueue) {
  const std::vector<std::vector<RequestClass>> mixes = {
      {{.share = 1, .prefill_seconds = 1}},
      {{.share = 0.75, .prefill_seconds = 0.1}, {.share = 0.25, .prefill_seconds = 1}},
      {{.share = 0.95, .prefill_seconds = 0.05}, {.share = 0.05, .prefill_seconds = 2}}};
  for (size_t i = 0; i < mixes.size(); ++i) {
    double mean = 0;
    for (const RequestClass& c : mixes[i]) mean += c.share * c.prefill_seconds;
    for (const int workers : {1, 2, 5, 10}) {
      for (const double utilisation : {0.3, 0.6, 0.8}) {
        const SizedLoad load{.rate = workers * utilisation / mean, .classes = mixes[i]};
        const double longest = mixes[i].back().prefill_seconds;
        const double simulated = SimulatedWait(load, workers) + longest;
        const double estimate = QueueWait(load, workers, kQuantile) + longest;
        const auto where = [&] {
          return testing::Message() << "mix " << i << ", " << workers << " at " << utilisation;
        };
        EXPECT_GT(estimate, 0.9 * simulated) << where();
        EXPECT_LT(estimate, 1.2 * simulated) << where();
      }
    }
  }
}

TEST(SizingTest, NobodyWaitsForAWorkerThatIsSeldomBusy) {
  const SizedLoad load{.rate = 1, .classes = {{.prefill_seconds = 0.005}}};
  EXPECT_EQ(QueueWait(load, 1, kQuantile), 0);
}

TEST(SizingTest, ThereAreJustEnoughPrefillWorkers) {
  const SizedLoad load{.rate = 20, .classes = {{.prefill_seconds = 0.2}}};  // 4 busy workers
  const auto size = SizePrefill(load, 0.3, kQuantile, 0.8);
  ASSERT_TRUE(size.ok()) << size.status();
  EXPECT_GT(size->workers, 5);
  EXPECT_DOUBLE_EQ(size->utilisation, 4.0 / static_cast<double>(size->workers));
  EXPECT_LE(size->ttft_seconds, 0.3);
  EXPECT_DOUBLE_EQ(size->ttft_seconds, size->wait_seconds + 0.2);
  const double with_one_less = QueueWait(load, size->workers - 1, kQuantile) + 0.2;
  EXPECT_GT(with_one_less, 0.3);
}

TEST(SizingTest, UtilisationIsBoundedThoughTheTimeWouldAllowMore) {
  const SizedLoad load{.rate = 20, .classes = {{.prefill_seconds = 0.2}}};
  EXPECT_EQ(SizePrefill(load, 1000, kQuantile, 0.8)->workers, 5);
  EXPECT_EQ(SizePrefill(load, 1000, kQuantile, 0.5)->workers, 8);
}

TEST(SizingTest, NoNumberOfWorkersMakesOnePromptFaster) {
  const SizedLoad load{
      .rate = 1,
      .classes = {{.share = 0.9, .prefill_seconds = 0.1}, {.share = 0.1, .prefill_seconds = 1.2}}};
  const auto size = SizePrefill(load, 1, kQuantile, 0.8);
  EXPECT_EQ(size.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(size.status().message()), HasSubstr("takes 1.200 s"));
}

TEST(SizingTest, AbsurdLoadsAreRefusedAtOnce) {
  const SizedLoad load{.rate = 1e6, .classes = {{.prefill_seconds = 1e5}}};
  EXPECT_EQ(SizePrefill(load, 1e6, kQuantile, 0.8).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(SizingTest, SequencesFollowLittlesLawWithRoomForTheQuantile) {
  // 10 a second for 0.5 + 9.5 s: 100 at a time, deviation 10.
  const SizedLoad load{.rate = 10, .classes = {{.prefill_seconds = 0.5, .kv_bytes = 0.1 * kGib}}};
  const auto by_batch = SizeDecode(load, 9.5, 64, 100 * kGib, kQuantile);
  ASSERT_TRUE(by_batch.ok());
  EXPECT_NEAR(by_batch->sequences, 100 + 2.326 * 10, 0.01);
  EXPECT_NEAR(by_batch->kv_bytes, 0.1 * kGib * by_batch->sequences, 1);
  EXPECT_EQ(by_batch->workers, 2);
  EXPECT_FALSE(by_batch->is_memory_bound);
  const auto by_memory = SizeDecode(load, 9.5, 64, 4 * kGib, kQuantile);
  ASSERT_TRUE(by_memory.ok());
  EXPECT_EQ(by_memory->workers, 4);
  EXPECT_TRUE(by_memory->is_memory_bound);
}

TEST(SizingTest, ASequenceThatFitsNowhereIsRefused) {
  const SizedLoad load{.rate = 1, .classes = {{.prefill_seconds = 1, .kv_bytes = 2 * kGib}}};
  EXPECT_EQ(SizeDecode(load, 1, 64, kGib, kQuantile).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace winnow
