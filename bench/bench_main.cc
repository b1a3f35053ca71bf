#include "bench/bench_main.h"

#include <omp.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "bench/commit.h"  // of the build folder
#include "bench/peak_flops.h"

namespace winnow {
namespace {

std::string Rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", value);
  return text;
}

}  // namespace

std::string CommitId() {
  const char* commit = std::getenv("WINNOW_COMMIT");
  if (commit != nullptr && *commit != '\0') return commit;
  return *WINNOW_COMMIT != '\0' ? WINNOW_COMMIT : "unknown";
}

std::string DeviceName() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos)
      return line.substr(colon + 2);
  }
  return "unknown";
}

int BenchThreads() { return omp_get_max_threads(); }

void SetFlopCounters(benchmark::State& state, double flop, double peak) {
  constexpr auto kRate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["gflops"] = benchmark::Counter(flop * 1e-9, kRate);
  if (peak > 0) state.counters["peak_share"] = benchmark::Counter(flop / peak, kRate);
}

void SetByteCounters(benchmark::State& state, double bytes, double peak) {
  constexpr auto kRate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["gbytes"] = benchmark::Counter(bytes * 1e-9, kRate);
  if (peak > 0) state.counters["copy_share"] = benchmark::Counter(bytes / peak, kRate);
}

}  // namespace winnow

int main(int argc, char** argv) {
  using namespace winnow;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const int threads = BenchThreads();
  benchmark::AddCustomContext("commit", CommitId());
  benchmark::AddCustomContext("device", DeviceName());
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("peak_f32_gflops", Rounded(PeakFlops(DType::kF32, threads) * 1e-9));
  benchmark::AddCustomContext("peak_bf16_gflops", Rounded(PeakFlops(DType::kBf16, threads) * 1e-9));
  benchmark::AddCustomContext("peak_copy_gbytes", Rounded(PeakCopyBytes(threads) * 1e-9));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
