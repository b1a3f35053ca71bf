// Short prompts among long ones: docs/performance.md states the figures that these print.
#include <cstdio>

#include "client/cli/load_report.h"
#include "gtest/gtest.h"
#include "tests/simulation/simulated_cluster.h"

namespace winnow {
namespace {

constexpr int64_t kShort = 128;
constexpr int64_t kLong = 16384;

struct Figures {
  double short_p50_s = 0, short_p99_s = 0, long_p50_s = 0;
  double chunk_s = 0;      // the longest step
  double short_own_s = 0;  // a short prompt that has the worker for itself
  double busy = 0;         // share of the time
};

// `rate` requests a second, one in ten of them long.
Figures Measure(double rate, double keep_ratio) {
  SimulatedCluster cluster({});
  const std::vector<PlannedRequest> alone = {{absl::ZeroDuration(), kShort, keep_ratio, 1}};
  Figures figures;
  figures.short_own_s = absl::ToDoubleSeconds(cluster.Run({.requests = alone})[0].first_token);
  const absl::Time begin = cluster.clock().Now();
  std::vector<double> shorts, longs;
  for (const SimulatedOutcome& outcome :
       cluster.Run({.requests = PlanLoad({.rate = rate,
                                .num_requests = static_cast<int64_t>(rate * 120),
                                .prompt_tokens = {{kShort, kLong}, {9, 1}},
                                .keep_ratios = {{keep_ratio}, {1}},
                                .seed = 11})})) {
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    (outcome.planned.prompt_tokens == kShort ? shorts : longs)
        .push_back(absl::ToDoubleSeconds(outcome.first_token));
  }
  const SimulatedPrefillEngine& engine = cluster.prefill()[0]->engine();
  figures.short_p50_s = Percentile(shorts, 0.5);
  figures.short_p99_s = Percentile(shorts, 0.99);
  figures.long_p50_s = Percentile(longs, 0.5);
  figures.chunk_s = absl::ToDoubleSeconds(engine.longest_step());
  figures.busy = absl::FDivDuration(engine.busy(), cluster.clock().Now() - begin);
  std::printf(
      "keep %.1f, %.1f requests/s, busy %.2f: short prompts p50 %.0f ms, p99 %.0f ms; one chunk "
      "%.0f ms, own %.0f ms; long prompts p50 %.2f s\n",
      keep_ratio, rate, figures.busy, figures.short_p50_s * 1e3, figures.short_p99_s * 1e3,
      figures.chunk_s * 1e3, figures.short_own_s * 1e3, figures.long_p50_s);
  return figures;
}

// A short prompt waits for the step that runs when it comes, then it has two of its own.
void ExpectBounded(const Figures& figures) {
  EXPECT_LT(figures.short_p99_s, figures.chunk_s + figures.short_own_s);
}

TEST(MixedLengthsSimulation, AShortPromptWaitsForOneChunkOfAPrunedOne) {
  for (const double rate : {5.0, 10.0, 20.0, 28.0}) ExpectBounded(Measure(rate, 0.1));
}

TEST(MixedLengthsSimulation, AShortPromptWaitsForOneChunkOfAnUnprunedOne) {
  for (const double rate : {5.0, 10.0, 15.0}) ExpectBounded(Measure(rate, 1));
}

// More long prompts than slots: they wait for each other, short ones do not.
TEST(MixedLengthsSimulation, ShortPromptsPassAQueueOfLongOnes) {
  SimulatedCluster cluster({});
  std::vector<PlannedRequest> requests(40, {absl::ZeroDuration(), kLong, 0.1, 1});
  for (int i = 1; i <= 20; ++i) requests.push_back({i * absl::Milliseconds(100), kShort, 0.1, 1});
  double worst_short_s = 0, worst_long_s = 0;
  for (const SimulatedOutcome& outcome : cluster.Run({.requests = requests})) {
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    double& worst = outcome.planned.prompt_tokens == kShort ? worst_short_s : worst_long_s;
    worst = std::max(worst, absl::ToDoubleSeconds(outcome.first_token));
  }
  std::printf("40 long prompts at once take %.1f s, the slowest short one %.0f ms\n", worst_long_s,
              worst_short_s * 1e3);
  EXPECT_GT(worst_long_s, 5);
  EXPECT_LT(worst_short_s,
            absl::ToDoubleSeconds(cluster.prefill()[0]->engine().longest_step()) * 1.25 + 0.02);
}

TEST(MixedLengthsSimulation, IsTheSameEveryTime) {
  const Figures once = Measure(10, 0.1), again = Measure(10, 0.1);
  EXPECT_EQ(once.short_p99_s, again.short_p99_s);
  EXPECT_EQ(once.long_p50_s, again.long_p50_s);
  EXPECT_EQ(once.busy, again.busy);
}

}  // namespace
}  // namespace winnow
