// The ops between the matmuls, which move memory: their traffic as a share of a plain copy's.
#include <cmath>
#include <string>
#include <vector>

#include "bench/affinity.h"
#include "bench/bench_main.h"
#include "bench/peak_flops.h"
#include "benchmark/benchmark.h"
#include "kernels/gated_act.h"
#include "kernels/rms_norm.h"
#include "kernels/rope.h"
#include "tests/kernels/gated_act_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/rms_norm_cases.h"
#include "tests/kernels/rope_cases.h"

namespace winnow {
namespace {

// Times run(), which moves `bytes`.
template <typename F>
void Measure(benchmark::State& state, int64_t bytes, F run) {
  const double peak = PeakCopyBytes(BenchThreads());
  const BoundTeam bound;
  run();
  for (auto _ : state) run();
  SetByteCounters(state, static_cast<double>(bytes), peak);
}

void BM_RmsNorm(benchmark::State& state, RmsNormCase c, DType dtype) {
  const int64_t count = c.rows * c.hidden;
  HostArray x = HostArray::Random(dtype, count, 1),
            delta = HostArray::Random(dtype, count, 2, -1e-6f, 1e-6f);
  HostArray weight = HostArray::Random(dtype, c.hidden, 3), out(dtype, count);
  const RmsNormParams params{x.data(),      c.with_delta ? delta.data() : nullptr,
                             weight.data(), out.data(),
                             dtype,         c.rows,
                             c.hidden,      1e-5f};
  Measure(state, count * ElementSize(dtype) * (c.with_delta ? 4 : 2), [&] { RmsNormCpu(params); });
}

struct Angles {
  explicit Angles(const RopeCase& c) {
    for (int64_t i = 0; i < c.rows; ++i) positions.push_back(static_cast<int32_t>(i));
    for (int i = 0; i < c.head_dim / 2; ++i) {
      inv_freq.push_back(static_cast<float>(std::pow(500000.0, -2.0 * i / c.head_dim)));
    }
  }
  std::vector<int32_t> positions;
  std::vector<float> inv_freq;
};

void BM_Rope(benchmark::State& state, RopeCase c, DType dtype) {
  const int64_t width = int64_t{c.heads} * c.head_dim;
  const Angles angles(c);
  HostArray x = HostArray::Random(dtype, c.rows * width, 1);
  const RopeParams params{
      x.data(),  angles.positions.data(), angles.inv_freq.data(), dtype, c.rows, width, c.heads,
      c.head_dim};
  Measure(state, 2 * c.rows * width * ElementSize(dtype), [&] { RopeCpu(params); });
}

void BM_StoreKv(benchmark::State& state, RopeCase c, DType dtype) {
  const int64_t width = int64_t{c.heads} * c.head_dim;
  const Angles angles(c);
  HostArray kv = HostArray::Random(dtype, c.rows * 2 * width, 1), k(dtype, c.rows * width),
            v(dtype, c.rows * width);
  const StoreKvParams params{.kv = kv.data(),
                             .positions = angles.positions.data(),
                             .inv_freq = angles.inv_freq.data(),
                             .k_cache = k.data(),
                             .v_cache = v.data(),
                             .dtype = dtype,
                             .rows = c.rows,
                             .capacity = c.rows,
                             .heads = c.heads,
                             .head_dim = c.head_dim};
  Measure(state, 4 * c.rows * width * ElementSize(dtype), [&] { StoreKvCpu(params); });
}

void BM_GatedAct(benchmark::State& state, GatedActCase c, DType dtype) {
  HostArray gate_up = HostArray::Random(dtype, c.rows * 2 * c.width, 1, -8.0f, 8.0f),
            out(dtype, c.rows * c.width);
  const GatedActParams params{gate_up.data(), out.data(), dtype, c.rows, c.width};
  Measure(state, 3 * c.rows * c.width * ElementSize(dtype), [&] { GatedActCpu(params); });
}

template <typename F>
void Register(const std::string& op, DType dtype, int64_t rows, int64_t width, F body) {
  const std::string name = op + "/" + DTypeName(dtype) + "/rows:" + std::to_string(rows) +
                           "/width:" + std::to_string(width);
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->Unit(benchmark::kMicrosecond)
      ->MinTime(0.05)
      ->Repetitions(5)
      ->ReportAggregatesOnly()  // read the median
      ->UseRealTime();
}

void RegisterAll() {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const RmsNormCase& c : RmsNormBenchCases()) {
      Register("rms_norm", dtype, c.rows, c.hidden,
               [=](benchmark::State& s) { BM_RmsNorm(s, c, dtype); });
    }
    for (const RopeCase& c : RopeBenchCases()) {
      Register("rope", dtype, c.rows, c.heads * c.head_dim,
               [=](benchmark::State& s) { BM_Rope(s, c, dtype); });
      Register("store_kv", dtype, c.rows, c.heads * c.head_dim,
               [=](benchmark::State& s) { BM_StoreKv(s, c, dtype); });
    }
    for (const GatedActCase& c : GatedActBenchCases()) {
      Register("gated_act", dtype, c.rows, c.width,
               [=](benchmark::State& s) { BM_GatedAct(s, c, dtype); });
    }
  }
}
const bool registered = (RegisterAll(), true);

}  // namespace
}  // namespace winnow
