// What the metrics of one request cost: everything that the three programs count for it, through
// the same calls, and one update of each kind by itself. docs/performance.md states the sum.
#include "bench/bench_main.h"
#include "benchmark/benchmark.h"
#include "common/metrics.h"
#include "decode_worker/decode_metrics.h"
#include "prefill_worker/prefill_metrics.h"
#include "router/router_metrics.h"

namespace winnow {
namespace {

// A long prompt: 32K tokens in steps of 1024 rows, its KV in chunks of 1 MiB, 128 new tokens from a
// decode worker that has nothing else to do, so that every step counts for this request alone.
constexpr int kPromptTokens = 32768;
constexpr int kSteps = 64;  // both phases, at most
constexpr int kChunks = 512;
constexpr int kNewTokens = 128;

void BM_CounterIncrement(benchmark::State& state) {
  MetricsRegistry registry;
  prometheus::Counter& counter = registry.Counter("c_total", "c");
  for (auto _ : state) counter.Increment();
}
BENCHMARK(BM_CounterIncrement);

void BM_HistogramObserve(benchmark::State& state) {
  MetricsRegistry registry;
  prometheus::Histogram& histogram = registry.Histogram("h", "h", metric_grids::Latency());
  double value = 0;
  for (auto _ : state) {
    histogram.Observe(value);
    value = value > 10 ? 0 : value + 0.01;
  }
}
BENCHMARK(BM_HistogramObserve);

void BM_RouterRequest(benchmark::State& state) {
  MetricsRegistry registry("router");
  RouterMetrics metrics(registry);
  const StageTimes stages{.tokenize = 0.01, .admit = 0.001, .dispatch = 0.001, .relay = 0.001};
  for (auto _ : state) {
    metrics.OnReceived();
    metrics.OnTaken(0.0001);
    metrics.OnFirstToken("claa", kPromptTokens, 1.5);
    metrics.OnDecodeReady(1.6);
    metrics.OnSecondToken("claa", 0.1);
    metrics.OnStages(stages);
    metrics.OnEnded(absl::StatusCode::kOk, 4);
  }
}
BENCHMARK(BM_RouterRequest);

void BM_PrefillRequest(benchmark::State& state) {
  MetricsRegistry registry("prefill");
  PrefillMetrics metrics(registry, /*tensor_parallel=*/2);
  const PrefillJob job;
  PrefillSummary summary;
  summary.ledger.prompt_tokens = kPromptTokens;
  summary.ledger.kept_tokens = kPromptTokens / 10;
  const KvHandoff::Summary handoff{.kv_payload_bytes = 1 << 28};
  for (auto _ : state) {
    for (int step = 0; step < kSteps; ++step) {
      metrics.OnQueued({.normal = 1});
      metrics.OnComputed(kPromptTokens / kSteps);
    }
    metrics.OnTransferred(handoff, absl::Milliseconds(50));
    metrics.OnFinished(job, summary, 1.4);
  }
}
BENCHMARK(BM_PrefillRequest);

void BM_DecodeRequest(benchmark::State& state) {
  MetricsRegistry registry("decode");
  DecodeMetrics metrics(registry);
  for (auto _ : state) {
    for (int chunk = 0; chunk < kChunks; ++chunk) metrics.OnKvWritten(1 << 20);
    metrics.OnJoined(absl::Milliseconds(2));
    for (int token = 1; token < kNewTokens; ++token) metrics.OnStep(1, 0.02, 1);
    metrics.OnSequenceEnded(absl::OkStatus());
  }
}
BENCHMARK(BM_DecodeRequest);

}  // namespace
}  // namespace winnow
