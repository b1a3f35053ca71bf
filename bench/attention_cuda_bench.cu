// Rates of the attention kernels of tests/kernels/attention_kernels.h on the shape of Llama-3.1-8B,
// as JSON: whole prompts, and a tenth of the rows, at random positions, against all keys; once with
// heads of 64 and of 96. FLOP are those of what the rows see. Needs only the CUDA runtime.
//   attention_cuda_bench [prefix of the kernels' names, all [repeats]]

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "bench/cuda_random.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/attention_kernels.h"

namespace winnow {
namespace {

// Median over `repeats` launches, milliseconds.
double MedianMs(const AttentionKernel& kernel, const AttentionParams& p, int repeats) {
  cudaEvent_t begin, end;
  REQUIRE_CUDA(cudaEventCreate(&begin));
  REQUIRE_CUDA(cudaEventCreate(&end));
  for (int i = 0; i < 3; ++i) kernel.run(p, nullptr);
  std::vector<float> times(repeats);
  for (float& ms : times) {
    REQUIRE_CUDA(cudaEventRecord(begin));
    kernel.run(p, nullptr);
    REQUIRE_CUDA(cudaEventRecord(end));
    REQUIRE_CUDA(cudaEventSynchronize(end));
    REQUIRE_CUDA(cudaEventElapsedTime(&ms, begin, end));
  }
  REQUIRE_CUDA(cudaGetLastError());
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

std::string Measure(const AttentionCase& c, const std::vector<AttentionKernel>& kernels,
                    int repeats) {
  AttentionParams p;
  p.q = RandomBf16(c.rows * c.q_stride(), 1);
  p.k = RandomBf16(c.kv_heads * c.capacity() * c.head_dim, 2);
  p.v = RandomBf16(c.kv_heads * c.capacity() * c.head_dim, 3);
  p.out = RandomBf16(c.rows * c.q_heads * c.head_dim, 4);
  if (!c.positions.empty()) {
    int32_t* positions = nullptr;
    REQUIRE_CUDA(cudaMalloc(&positions, c.rows * 4));
    REQUIRE_CUDA(cudaMemcpy(positions, c.positions.data(), c.rows * 4, cudaMemcpyHostToDevice));
    p.positions = positions;
  }
  p.dtype = DType::kBf16;
  p.rows = c.rows;
  p.q_stride = c.q_stride();
  p.capacity = c.capacity();
  p.q_heads = c.q_heads;
  p.kv_heads = c.kv_heads;
  p.head_dim = c.head_dim;
  std::string rates;
  for (const AttentionKernel& kernel : kernels) {
    if (!kernel.supports(p)) continue;
    const double ms = MedianMs(kernel, p, repeats);
    char text[96];
    std::snprintf(text, sizeof text, "%s\"%s\": {\"ms\": %.4f, \"tflops\": %.1f}",
                  rates.empty() ? "" : ", ", kernel.name, ms, c.flop() / ms / 1e9);
    rates += text;
  }
  return "{" + rates + "}";
}

// A tenth of `tokens` rows, sorted, the last one kept.
AttentionCase KeptRows(int64_t tokens) {
  std::mt19937_64 random(7);
  std::vector<int32_t> all(tokens);
  for (int64_t i = 0; i < tokens; ++i) all[i] = static_cast<int32_t>(i);
  std::shuffle(all.begin(), all.end() - 1, random);
  std::vector<int32_t> kept(all.begin(), all.begin() + tokens / 10);
  kept.back() = static_cast<int32_t>(tokens - 1);
  std::sort(kept.begin(), kept.end());
  AttentionCase c = Llama8bAttention(tokens);
  c.rows = kept.size();
  c.positions = kept;
  return c;
}

int Main(const char* prefix, int repeats) {
  cudaDeviceProp device;
  REQUIRE_CUDA(cudaGetDeviceProperties(&device, 0));
  const std::vector<AttentionKernel> kernels = AttentionKernels(prefix, device.major);
  if (kernels.empty()) {
    std::fprintf(stderr, "the GPU runs no kernel \"%s\"\n", prefix);
    return 2;
  }
  const auto measure = [&](const AttentionCase& c) { return Measure(c, kernels, repeats); };
  std::printf("{\"device\": \"%s\",\n \"dense\": {", device.name);
  const char* separator = "";
  for (const int64_t tokens : {2048, 4096, 8192, 16384, 32768}) {
    std::printf("%s\n  \"%lld\": %s", separator, static_cast<long long>(tokens),
                measure(Llama8bAttention(tokens)).c_str());
    separator = ",";
  }
  std::printf("},\n \"kept_tenth\": {\n  \"8192\": %s,\n  \"32768\": %s},\n",
              measure(KeptRows(8192)).c_str(), measure(KeptRows(32768)).c_str());
  std::printf(" \"dense_head_dim_64\": {\"8192\": %s},\n", measure({8192, 32, 8, 64}).c_str());
  std::printf(" \"dense_head_dim_96\": {\"8192\": %s}}\n", measure({8192, 32, 8, 96}).c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  return winnow::Main(argc > 1 ? argv[1] : "", argc > 2 ? std::atoi(argv[2]) : 21);
}
