#include "common/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

namespace winnow {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsRegistryTest, ExportsZerosBeforeAnythingHappened) {
  MetricsRegistry metrics;
  metrics.Counter("winnow_requests_total", "Requests.", {{"code", "OK"}});
  metrics.Counter("winnow_requests_total", "Requests.", {{"code", "INTERNAL"}});
  metrics.Gauge("winnow_requests_inflight", "Now.");
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("# TYPE winnow_requests_total counter\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"OK\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"INTERNAL\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_inflight 0\n"));
}

TEST(MetricsRegistryTest, CountsAndSets) {
  MetricsRegistry metrics;
  metrics.Counter("c_total", "c").Increment(3);
  metrics.Gauge("g", "g").Set(-2.5);
  EXPECT_THAT(metrics.Serialize(), HasSubstr("c_total 3\n"));
  EXPECT_THAT(metrics.Serialize(), HasSubstr("g -2.5\n"));
}

TEST(MetricsRegistryTest, TheComponentIsALabelOfEveryMetric) {
  MetricsRegistry metrics("router");
  metrics.Counter("c_total", "c", {{"a", "1"}}).Increment();
  metrics.Histogram("h_seconds", "h", {1}).Observe(2);
  EXPECT_THAT(metrics.Serialize(), HasSubstr("c_total{component=\"router\",a=\"1\"} 1\n"));
  EXPECT_THAT(metrics.Serialize(), HasSubstr("h_seconds_sum{component=\"router\"} 2\n"));
}

TEST(MetricsRegistryTest, AProfileIsReadableAsALabel) {
  MetricsRegistry metrics;
  ExportModelInfo(metrics, "abc", R"({"policy":"claa","window":8})");
  EXPECT_THAT(metrics.Serialize(),
              HasSubstr("winnow_model_info{digest=\"abc\",profile=\"policy:claa,window:8\"} 1\n"));
}

TEST(RequestCounterTest, KnowsEveryStatusAndCountsStrangeOnesAsUnknown) {
  MetricsRegistry metrics;
  RequestCounter requests(metrics);
  requests.Count(absl::StatusCode::kDataLoss);
  requests.Count(static_cast<absl::StatusCode>(77));
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"OK\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"UNAUTHENTICATED\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"DATA_LOSS\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("winnow_requests_total{code=\"UNKNOWN\"} 1\n"));
}

TEST(MetricsRegistryTest, TheSameNameAndLabelsAreTheSameMetric) {
  MetricsRegistry metrics;
  EXPECT_EQ(&metrics.Counter("c_total", "c", {{"a", "1"}}),
            &metrics.Counter("c_total", "c", {{"a", "1"}}));
  EXPECT_NE(&metrics.Counter("c_total", "c", {{"a", "1"}}),
            &metrics.Counter("c_total", "c", {{"a", "2"}}));
}

TEST(MetricsRegistryTest, HistogramBucketsAreCumulative) {
  MetricsRegistry metrics;
  auto& histogram = metrics.Histogram("h_seconds", "h", {1, 2}, {{"tp", "2"}});
  histogram.Observe(1);  // on the bound: belongs to it
  histogram.Observe(1.5);
  histogram.Observe(9);
  const std::string text = metrics.Serialize();
  EXPECT_THAT(text, HasSubstr("h_seconds_bucket{tp=\"2\",le=\"1\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("h_seconds_bucket{tp=\"2\",le=\"2\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("h_seconds_bucket{tp=\"2\",le=\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("h_seconds_count{tp=\"2\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("h_seconds_sum{tp=\"2\"} 11.5\n"));
}

TEST(MetricsRegistryTest, ManyThreadsLoseNoIncrement) {
  MetricsRegistry metrics;
  auto& counter = metrics.Counter("c_total", "c");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) counter.Increment();
      EXPECT_THAT(metrics.Serialize(), Not(HasSubstr("nan")));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.Value(), 4000);
}

TEST(MetricGridsTest, AscendBetweenTheirStatedEnds) {
  const std::vector<std::tuple<std::vector<double>, double, double, size_t>> grids = {
      {metric_grids::Latency(), 0.005, 300, 25}, {metric_grids::InterToken(), 0.001, 5, 19},
      {metric_grids::Stages(), 1e-5, 5, 18},     {metric_grids::Bytes(), 65536, 17179869184.0, 10},
      {metric_grids::Tokens(), 1, 1e6, 19},      {metric_grids::Ratio(), 0.05, 1, 20}};
  for (const auto& [grid, first, last, size] : grids) {
    EXPECT_EQ(grid.front(), first);
    EXPECT_EQ(grid.back(), last);
    EXPECT_EQ(grid.size(), size);
    EXPECT_EQ(std::adjacent_find(grid.begin(), grid.end(), std::greater_equal<>()), grid.end());
  }
}

}  // namespace
}  // namespace winnow
