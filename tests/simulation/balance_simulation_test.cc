// How evenly several routers that know nothing of each other load equal workers.
#include <algorithm>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/load_report.h"
#include "common/retry_hint.h"
#include "gtest/gtest.h"
#include "tests/simulation/simulated_cluster.h"

namespace winnow {
namespace {

struct Balance {
  double requests = 0, tokens = 0;  // the most of a worker by their mean
  int64_t most_jobs = 0;            // of a worker at a time
};

double MaxByMean(const std::vector<double>& loads) {
  double sum = 0;
  for (const double load : loads) sum += load;
  return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / sum;
}

Balance Measure(const std::string& what, SimulatedCluster::Options options,
                std::vector<PlannedRequest> requests, absl::Duration timeout = absl::Minutes(10)) {
  SimulatedCluster cluster(std::move(options));
  for (const SimulatedOutcome& outcome :
       cluster.Run({.requests = std::move(requests), .max_tokens = 8, .timeout = timeout})) {
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  }
  Balance balance;
  std::vector<double> jobs, tokens;
  for (const SimulatedPrefillWorker* worker : cluster.prefill()) {
    jobs.push_back(static_cast<double>(worker->accepted_jobs()));
    tokens.push_back(static_cast<double>(worker->accepted_tokens()));
    balance.most_jobs = std::max(balance.most_jobs, worker->most_jobs());
  }
  balance.requests = MaxByMean(jobs);
  balance.tokens = MaxByMean(tokens);
  std::printf("%s: max/mean %.2f by requests, %.2f by tokens; most jobs at a time %ld\n",
              what.c_str(), balance.requests, balance.tokens, static_cast<long>(balance.most_jobs));
  return balance;
}

std::vector<PlannedRequest> AtOnce(int64_t count, Mix<int64_t> tokens, uint64_t seed) {
  std::vector<PlannedRequest> requests = PlanLoad(
      {.num_requests = count, .prompt_tokens = tokens, .keep_ratios = {{0.1}, {1}}, .seed = seed});
  for (PlannedRequest& request : requests) request.at = absl::ZeroDuration();
  return requests;
}

constexpr int kSeeds = 5;

void ExpectBalance(int routers) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const SimulatedCluster::Options four{.routers = routers, .prefill_workers = 4, .seed = seed};
    const std::string name = absl::StrCat(routers, " router(s), seed ", seed);
    const Balance equal = Measure(name + ", equal prompts", four, AtOnce(100, {{4096}, {1}}, seed));
    EXPECT_LE(equal.requests, 1.2);
    const Balance mixed = Measure(name + ", 1K to 8K", four,
                                  AtOnce(100, {{1024, 2048, 4096, 8192}, {1, 1, 1, 1}}, seed));
    EXPECT_LE(mixed.tokens, 1.2);
  }
}

TEST(BalanceSimulation, AHundredAtOnceThroughOneRouter) { ExpectBalance(1); }
TEST(BalanceSimulation, AHundredAtOnceThroughThreeRouters) { ExpectBalance(3); }

TEST(BalanceSimulation, NoWorkerTakesMoreThanItsLimit) {
  constexpr int kLimit = 10;
  SimulatedCluster cluster(
      {.routers = 3, .prefill_workers = 4, .scheduler = {.admission = {.max_jobs = kLimit}}});
  int64_t ok = 0;
  for (const SimulatedOutcome& outcome : cluster.Run({.requests = AtOnce(100, {{4096}, {1}}, 1)})) {
    EXPECT_TRUE(outcome.ended);
    EXPECT_TRUE(outcome.status.ok() || GetRetryAfter(outcome.status)) << outcome.status;
    ok += outcome.status.ok();
  }
  int64_t most = 0;
  for (const SimulatedPrefillWorker* worker : cluster.prefill()) {
    most = std::max(most, worker->most_jobs());
  }
  std::printf("limit %d: %ld of 100 answered, most jobs at a time %ld\n", kLimit,
              static_cast<long>(ok), static_cast<long>(most));
  EXPECT_EQ(most, kLimit);
  EXPECT_GE(ok, 4 * kLimit);
}

// Seconds to the first token, 99th percentile, mean of a few seeds, of prompts of 2K and 8K tokens
// that keep four workers 60 % busy.
double P99(int routers) {
  double p50 = 0, p99 = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SimulatedCluster cluster({.routers = routers, .prefill_workers = 4, .seed = seed});
    std::vector<double> ttft;
    for (const SimulatedOutcome& outcome :
         cluster.Run({.requests = PlanLoad({.rate = 20,
                                  .num_requests = 2000,
                                  .prompt_tokens = {{2048, 8192}, {1, 1}},
                                  .keep_ratios = {{1}, {1}},
                                  .seed = seed})})) {
      EXPECT_TRUE(outcome.status.ok()) << outcome.status;
      ttft.push_back(absl::ToDoubleSeconds(outcome.first_token));
    }
    p50 += Percentile(ttft, 0.5) / kSeeds;
    p99 += Percentile(ttft, 0.99) / kSeeds;
  }
  std::printf("%d router(s): time to first token p50 %.0f ms, p99 %.0f ms\n", routers, p50 * 1e3,
              p99 * 1e3);
  return p99;
}

// Two workers are busy for a second with what one router gave them; the other one, which gave them
// nothing, sends its prompts to the two that are idle.
TEST(BalanceSimulation, ARouterSeesWhatAnotherOneGave) {
  SimulatedCluster cluster({.routers = 2, .prefill_workers = 4});
  constexpr int64_t kHuge = 32768, kMiddling = 2048;
  std::vector<PlannedRequest> requests;  // in turn by the first and the second router
  for (const int64_t tokens : {kHuge, kMiddling, kHuge, kMiddling}) {
    requests.push_back({absl::ZeroDuration(), tokens, 1, 1});
  }
  for (int i = 0; i < 8; ++i) {
    requests.push_back({absl::Milliseconds(300 + 80 * i), kMiddling, 1, 1});
  }
  double slowest_s = 0;
  for (const SimulatedOutcome& outcome : cluster.Run({.requests = requests})) {
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    if (outcome.planned.at == absl::ZeroDuration()) continue;
    slowest_s = std::max(slowest_s, absl::ToDoubleSeconds(outcome.first_token));
  }
  std::printf("the slowest prompt of 2K beside two of 32K: %.0f ms\n", slowest_s * 1e3);
  EXPECT_LT(slowest_s, 0.08);  // 45 ms of its own, and no step of a long one
}

TEST(BalanceSimulation, TheTailStaysWithinTwiceThatOfOneRouter) {
  const double one = P99(1);
  EXPECT_LT(P99(3), 2 * one);
}

}  // namespace
}  // namespace winnow
