#include "bench/peak_flops.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "bench/affinity.h"
#include "benchmark/benchmark.h"

namespace winnow {
namespace {

constexpr int kRounds = 7;
constexpr int64_t kIterations = 1 << 20;
// Independent chains: latency 4 (6 for vdpbf16ps on Zen 4) times 2 issues per cycle, with some to
// spare; and they and their operands fit 16 registers (AVX2).
constexpr int kChains = 12;

// Seconds from the common start of `threads` threads that each run work(thread) to the end of the
// last: best of kRounds.
double BestSeconds(int threads, const std::function<void(int)>& work) {
  const std::vector<int> processors = Processors(threads);
  double best = 1e30;
  for (int round = 0; round < kRounds; ++round) {
    std::chrono::steady_clock::time_point begin;
    std::barrier start(threads, [&]() noexcept { begin = std::chrono::steady_clock::now(); });
    std::vector<std::thread> team;
    for (int t = 0; t < threads; ++t) {
      team.emplace_back([&, t] {
        if (!processors.empty()) PinTo(processors[t % processors.size()]);
        start.arrive_and_wait();
        work(t);
      });
    }
    for (std::thread& thread : team) thread.join();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

// One instruction stream: the work, and the FLOP of one of its instructions. work is null when the
// processor lacks it.
struct Stream {
  void (*work)() = nullptr;
  double flop = 0;
};

#if defined(__x86_64__)
// x ← x·a + b with 0 < a < 1 stays near b / (1 − a): neither overflow nor denormals, which would be
// slower.
__attribute__((target("avx512f"))) void FmaAvx512() {
  __m512 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
  benchmark::DoNotOptimize(a);
  benchmark::DoNotOptimize(b);
  for (int64_t n = 0; n < kIterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm512_fmadd_ps(x[i], a, b);
  }
  for (__m512& chain : x) benchmark::DoNotOptimize(chain);
}

__attribute__((target("avx2,fma"))) void FmaAvx2() {
  __m256 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm256_set1_ps(static_cast<float>(i));
  __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1.0f);
  benchmark::DoNotOptimize(a);
  benchmark::DoNotOptimize(b);
  for (int64_t n = 0; n < kIterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm256_fmadd_ps(x[i], a, b);
  }
  for (__m256& chain : x) benchmark::DoNotOptimize(chain);
}

// Adds products of zeros, which cost the same.
__attribute__((target("avx512f,avx512bf16"))) void DotBf16() {
  __m512 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm512_set1_ps(static_cast<float>(i));
  __m512i zeros = _mm512_setzero_si512();
  benchmark::DoNotOptimize(zeros);
  const __m512bh a = (__m512bh)zeros, b = (__m512bh)zeros;
  for (int64_t n = 0; n < kIterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm512_dpbf16_ps(x[i], a, b);
  }
  for (__m512& chain : x) benchmark::DoNotOptimize(chain);
}

Stream StreamOf(DType dtype) {
  if (dtype == DType::kBf16) {
    return __builtin_cpu_supports("avx512bf16") ? Stream{DotBf16, 64}
                                                : Stream{};  // 16 lanes of two products, added
  }
  if (__builtin_cpu_supports("avx512f")) return {FmaAvx512, 32};
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? Stream{FmaAvx2, 16}
                                                                         : Stream{};
}
#else
Stream StreamOf(DType) { return {}; }
#endif

}  // namespace

double PeakFlops(DType dtype, int threads) {
  const Stream stream = StreamOf(dtype);
  if (stream.work == nullptr) return 0;
  const double seconds = BestSeconds(threads, [&](int) { stream.work(); });
  return stream.flop * kChains * static_cast<double>(kIterations) * threads / seconds;
}

double PeakCopyBytes(int threads) {
  constexpr size_t kBytes = size_t{64} << 20;  // per thread and array
  std::vector<std::unique_ptr<char[]>> from, to;
  for (int t = 0; t < threads; ++t) {
    from.push_back(std::make_unique<char[]>(kBytes));  // written once, so that the pages exist
    to.push_back(std::make_unique<char[]>(kBytes));
  }
  const double seconds = BestSeconds(threads, [&](int t) {
    std::memcpy(to[t].get(), from[t].get(), kBytes);
    benchmark::ClobberMemory();
  });
  return 2.0 * kBytes * threads / seconds;
}

}  // namespace winnow
