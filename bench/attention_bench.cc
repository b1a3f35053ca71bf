// Attention of whole prompts (share of the peak that is measured beside each case; FLOP are those
// of the causal half), window scores, and decode (share of a plain copy's speed).
#include <omp.h>

#include <cmath>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "bench/affinity.h"
#include "bench/bench_main.h"
#include "bench/peak_flops.h"
#include "benchmark/benchmark.h"
#include "kernels/attention.h"
#include "kernels/matmul.h"
#include "kernels/paged_attention.h"
#include "kernels/window_scores.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/host_array.h"

namespace winnow {
namespace {

// The OpenMP team size of a case; the program's is back afterwards.
class Team {
 public:
  explicit Team(int threads) { omp_set_num_threads(threads); }
  ~Team() { omp_set_num_threads(before_); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

 private:
  const int before_ = omp_get_max_threads();
};

void BM_Attention(benchmark::State& state, AttentionCase c, DType dtype, int threads) {
  const Team team(threads);
  const HostArray q = HostArray::Random(dtype, c.rows * c.q_stride(), 1, -2.0f, 2.0f);
  const int64_t entries = c.kv_heads * c.capacity() * c.head_dim;
  const HostArray k = HostArray::Random(dtype, entries, 2, -2.0f, 2.0f);
  const HostArray v = HostArray::Random(dtype, entries, 3, -2.0f, 2.0f);
  HostArray out(dtype, c.rows * c.q_heads * c.head_dim);
  const AttentionParams params{.q = q.data(),
                               .k = k.data(),
                               .v = v.data(),
                               .out = out.data(),
                               .dtype = dtype,
                               .rows = c.rows,
                               .q_stride = c.q_stride(),
                               .capacity = c.capacity(),
                               .q_heads = c.q_heads,
                               .kv_heads = c.kv_heads,
                               .head_dim = c.head_dim};
  const BoundTeam bound;
  AttentionCpu(params);
  const double peak = PeakFlops(dtype, threads);
  for (auto _ : state) AttentionCpu(params);
  SetFlopCounters(state, c.flop(), peak);
}

// The demo model's window over `tokens` keys.
void BM_WindowScores(benchmark::State& state, int64_t tokens, DType dtype, int threads) {
  const Team team(threads);
  constexpr int kWindow = 8, kQueryHeads = 8, kKvHeads = 4, kHeadDim = 64;
  const HostArray q = HostArray::Random(dtype, kQueryHeads * kWindow * kHeadDim, 1);
  const HostArray k = HostArray::Random(dtype, kKvHeads * tokens * kHeadDim, 2);
  std::vector<float> scores(kKvHeads * (tokens - kWindow));
  const WindowScoresParams params{.q = q.data(),
                                  .k = k.data(),
                                  .scores = scores.data(),
                                  .dtype = dtype,
                                  .window_begin = tokens - kWindow,
                                  .capacity = tokens,
                                  .window = kWindow,
                                  .pool_kernel = 15,
                                  .q_heads = kQueryHeads,
                                  .kv_heads = kKvHeads,
                                  .head_dim = kHeadDim};
  const BoundTeam bound;
  WindowScoresCpu(params);
  const double peak = PeakFlops(dtype, threads);
  for (auto _ : state) WindowScoresCpu(params);
  SetFlopCounters(state, 2.0 * kQueryHeads * kWindow * kHeadDim * static_cast<double>(tokens),
                  peak);
}

// One decode step of the demo model over `length` entries in blocks of 16.
void BM_PagedAttention(benchmark::State& state, int32_t length, DType dtype, int threads) {
  const Team team(threads);
  constexpr int kBlock = 16, kQueryHeads = 8, kKvHeads = 4, kHeadDim = 64;
  const int64_t elements = int64_t{length} * kKvHeads * kHeadDim;
  const HostArray q = HostArray::Random(dtype, kQueryHeads * kHeadDim, 1);
  const HostArray k = HostArray::Random(dtype, elements, 2);
  const HostArray v = HostArray::Random(dtype, elements, 3);
  HostArray out(dtype, kQueryHeads * kHeadDim);
  std::vector<int32_t> table(length / kBlock);
  std::iota(table.rbegin(), table.rend(), 0);
  const PagedAttentionParams params{.q = q.data(),
                                    .k_blocks = k.data(),
                                    .v_blocks = v.data(),
                                    .out = out.data(),
                                    .block_table = table.data(),
                                    .lengths = &length,
                                    .dtype = dtype,
                                    .batch = 1,
                                    .q_stride = kQueryHeads * kHeadDim,
                                    .table_stride = length / kBlock,
                                    .block_size = kBlock,
                                    .q_heads = kQueryHeads,
                                    .kv_heads = kKvHeads,
                                    .head_dim = kHeadDim};
  const BoundTeam bound;
  PagedAttentionCpu(params);
  const double peak = PeakCopyBytes(threads);
  for (auto _ : state) PagedAttentionCpu(params);
  SetByteCounters(state, 2.0 * static_cast<double>(elements) * ElementSize(dtype), peak);
}

template <typename F>
void Register(const std::string& name, F run) {
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Unit(benchmark::kMicrosecond)
      ->MinTime(0.1)
      ->Repetitions(5)
      ->ReportAggregatesOnly()  // read the median
      ->UseRealTime();
}

void RegisterAll(DType dtype, int threads) {
  const std::string tail = std::string("/threads:") + std::to_string(threads);
  const auto name = [&](const char* op, int64_t tokens) {
    return std::string(op) + "/" + DTypeName(dtype) + "/tokens:" + std::to_string(tokens);
  };
  for (const int64_t tokens : {512, 2048, 8192, 16384}) {
    Register(name("attention", tokens) + "/heads:8/4x64" + tail, [=](benchmark::State& state) {
      BM_Attention(state, DemoAttention(tokens), dtype, threads);
    });
  }
  Register(name("attention", 2048) + "/heads:32/8x128" + tail, [=](benchmark::State& state) {
    BM_Attention(state, Llama8bAttention(2048), dtype, threads);
  });
  Register(name("window_scores", 8192) + tail,
           [=](benchmark::State& state) { BM_WindowScores(state, 8192, dtype, threads); });
  for (const int32_t length : {1024, 8192}) {
    Register(name("paged_attention", length) + tail,
             [=](benchmark::State& state) { BM_PagedAttention(state, length, dtype, threads); });
  }
}

const bool registered = [] {
  const int most = static_cast<int>(std::thread::hardware_concurrency());
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    if (dtype == DType::kBf16 && !CpuHasBf16()) continue;
    RegisterAll(dtype, 1);
    if (most > 1) RegisterAll(dtype, most);
  }
  return true;
}();

}  // namespace
}  // namespace winnow
