#pragma once

#include <string>

#include "benchmark/benchmark.h"

// Linking winnow_bench_main gives a benchmark program its main. Its results carry, as context,
// `commit`, `device`, `threads` and the peaks measured at the start, on as many threads:
// `peak_f32_gflops`, `peak_bf16_gflops` ("0" if not supported), `peak_copy_gbytes`. All flags of
// Google Benchmark hold; --benchmark_format=json prints JSON,
// --benchmark_out=FILE writes it beside the table.
// Shares mean something on a machine that runs nothing else: context peaks well below the
// processor's, or a spread (cv) of more than some percent, tell that it did.
namespace winnow {

// Environment variable WINNOW_COMMIT, else the commit that was built, with "-dirty" when files
// differed from it, else "unknown".
std::string CommitId();

// Model name from /proc/cpuinfo, or "unknown".
std::string DeviceName();

// OpenMP's team size: what the benchmarked ops use.
int BenchThreads();

// Counters of a benchmark whose iteration costs `flop` FLOP: gflops, and peak_share when `peak`
// (FLOP/s) is not 0.
void SetFlopCounters(benchmark::State& state, double flop, double peak);
// The same for memory traffic: gbytes, and copy_share of `peak` (bytes/s). Above 1: it runs from
// the caches.
void SetByteCounters(benchmark::State& state, double bytes, double peak);

}  // namespace winnow
