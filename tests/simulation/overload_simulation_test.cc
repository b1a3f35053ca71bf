// Three times what a cluster can do, on a virtual clock.
#include <algorithm>
#include <cstdio>
#include <map>

#include "common/retry_hint.h"
#include "gtest/gtest.h"
#include "tests/simulation/simulated_cluster.h"

namespace winnow {
namespace {

constexpr int kPrefillWorkers = 4;

SimulatedCluster::Options Cluster(int routers) {
  return {.routers = routers, .prefill_workers = kPrefillWorkers, .decode_workers = 2};
}

LoadOptions Prompts(double rate, int64_t requests) {
  return {.rate = rate,
          .num_requests = requests,
          .prompt_tokens = {{4096}, {1}},
          .keep_ratios = {{0.1}, {1}},
          .seed = 5};
}

// Requests a second when there is always enough to do, and no hurry.
double Capacity() {
  SimulatedCluster cluster(Cluster(1));
  const absl::Time begin = cluster.clock().Now();
  const auto outcomes = cluster.Run({.requests = PlanLoad(Prompts(1000, 800)), .max_tokens = 8});
  for (const SimulatedOutcome& outcome : outcomes) EXPECT_TRUE(outcome.status.ok());
  return static_cast<double>(outcomes.size()) /
         absl::ToDoubleSeconds(cluster.clock().Now() - begin);
}

void ExpectGoodputAtThreeTimes(int routers) {
  constexpr double kSeconds = 60;
  const double capacity = Capacity();
  SimulatedCluster cluster(Cluster(routers));
  const auto requests = static_cast<int64_t>(3 * capacity * kSeconds);
  const absl::Time begin = cluster.clock().Now();
  std::map<absl::StatusCode, int64_t> codes;
  int64_t without_hint = 0;
  for (const SimulatedOutcome& outcome :
       cluster.Run({.requests = PlanLoad(Prompts(3 * capacity, requests)),
       .max_tokens = 8,
       .timeout = absl::Seconds(4)})) {
    EXPECT_TRUE(outcome.ended);
    ++codes[outcome.status.code()];
    if (absl::IsResourceExhausted(outcome.status)) {
      without_hint += !GetRetryAfter(outcome.status).has_value();
    }
  }
  const double goodput = static_cast<double>(codes[absl::StatusCode::kOk]) /
                         absl::ToDoubleSeconds(cluster.clock().Now() - begin);
  std::printf("%d router(s): capacity %.1f/s, goodput at 3x %.1f/s, share %.3f; of %ld:", routers,
              capacity, goodput, goodput / capacity, static_cast<long>(requests));
  for (const auto& [code, count] : codes) {
    std::printf(" %s %ld", absl::StatusCodeToString(code).c_str(), static_cast<long>(count));
  }
  int64_t most_jobs = 0;
  for (const SimulatedPrefillWorker* worker : cluster.prefill()) {
    most_jobs = std::max(most_jobs, worker->most_jobs());
  }
  std::printf("; most jobs on a worker %ld\n", static_cast<long>(most_jobs));

  EXPECT_GE(goodput, 0.9 * capacity);
  EXPECT_EQ(without_hint, 0);
  EXPECT_EQ(codes[absl::StatusCode::kOk] + codes[absl::StatusCode::kResourceExhausted] +
                codes[absl::StatusCode::kDeadlineExceeded],
            requests);
  EXPECT_LE(codes[absl::StatusCode::kDeadlineExceeded], requests / 50);
  cluster.Idle(absl::Seconds(1));
  EXPECT_EQ(cluster.jobs_held(), 0);
  EXPECT_EQ(cluster.staging_bytes_held(), 0);
  EXPECT_EQ(cluster.entries_held(), 0);
}

TEST(OverloadSimulation, GoodputAtThreeTimesTheCapacity) { ExpectGoodputAtThreeTimes(1); }

TEST(OverloadSimulation, GoodputAtThreeTimesTheCapacityThroughThreeRouters) {
  ExpectGoodputAtThreeTimes(3);
}

TEST(OverloadSimulation, UrgentRequestsAreAnsweredFirst) {
  SimulatedCluster cluster(Cluster(3));
  std::map<int, int64_t> asked, ok;
  std::map<int, absl::Duration> ttft;
  for (const SimulatedOutcome& outcome : cluster.Run({.requests = PlanLoad(Prompts(240, 240 * 30)),
                                         .max_tokens = 8,
                                         .timeout = absl::Seconds(4),
                                         .urgent_one_in = 10})) {
    ++asked[outcome.priority];
    ok[outcome.priority] += outcome.status.ok();
    if (outcome.status.ok()) ttft[outcome.priority] += outcome.first_token;
  }
  for (const int priority : {0, 1}) {
    std::printf("priority %d: %ld of %ld answered, mean time to first token %.2f s\n", priority,
                static_cast<long>(ok[priority]), static_cast<long>(asked[priority]),
                absl::ToDoubleSeconds(ttft[priority]) / static_cast<double>(ok[priority]));
  }
  EXPECT_GE(ok[1], asked[1] * 98 / 100);
  EXPECT_LE(ok[0], asked[0] / 2);
}

}  // namespace
}  // namespace winnow
