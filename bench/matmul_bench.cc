// CpuMatmul at the demo model's shapes and at large squares, as a share of the peak measured beside
// each case.
#include <string>

#include "bench/affinity.h"
#include "bench/bench_main.h"
#include "bench/peak_flops.h"
#include "benchmark/benchmark.h"
#include "kernels/matmul.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/matmul_cases.h"

namespace winnow {
namespace {

void BM_Matmul(benchmark::State& state, MatmulCase c, DType dtype) {
  const HostArray x = HostArray::Random(dtype, c.rows * c.stride(), 1);
  const HostArray w = HostArray::Random(dtype, c.out_features * c.in_features, 2);
  HostArray out(dtype, c.rows * c.out_features);  // activations are stored in the weights' type
  CpuMatmul matmul({w.data(), dtype, c.out_features, c.in_features});
  const MatmulParams params{x.data(), out.data(), c.rows, c.stride(), dtype};
  const BoundTeam bound;
  matmul.Run(params);  // makes the primitive, touches the pages
  const double peak = PeakFlops(dtype, BenchThreads());
  for (auto _ : state) matmul.Run(params);
  SetFlopCounters(state, 2.0 * c.rows * c.out_features * c.in_features, peak);
}

void RegisterAll() {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    if (dtype == DType::kBf16 && !CpuHasBf16()) continue;
    for (const MatmulCase& c : MatmulBenchCases()) {
      const std::string name =
          std::string("matmul/") + DTypeName(dtype) + "/rows:" + std::to_string(c.rows) +
          "/out:" + std::to_string(c.out_features) + "/in:" + std::to_string(c.in_features);
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { BM_Matmul(state, c, dtype); })
          ->Unit(benchmark::kMicrosecond)
          ->MinTime(0.1)
          ->Repetitions(5)
          ->ReportAggregatesOnly()  // read the median
          ->UseRealTime();
    }
  }
}
const bool registered = (RegisterAll(), true);

}  // namespace
}  // namespace winnow
