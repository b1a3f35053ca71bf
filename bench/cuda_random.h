#pragma once

// Random device memory for benchmarks that need only the CUDA runtime.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "kernels/types.h"

namespace winnow {

// Ends the program when a call failed.
inline void Require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define REQUIRE_CUDA(call) ::winnow::Require(call, #call)

// Normal numbers in bf16 with mean 0, on the device; never freed, the programs are short.
inline void* RandomBf16(int64_t count, uint64_t seed, float deviation = 1.0f) {
  // Two million different numbers, repeated: enough that no tile is like its neighbour.
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<Bf16> host(std::min<int64_t>(count, (1 << 21) + 1));
  for (Bf16& x : host) x = ToBf16(normal(random));
  void* data = nullptr;
  REQUIRE_CUDA(cudaMalloc(&data, count * 2));
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(host.size())) {
    const int64_t part = std::min<int64_t>(count - i, host.size());
    REQUIRE_CUDA(cudaMemcpy(static_cast<char*>(data) + i * 2, host.data(), part * 2,
                            cudaMemcpyHostToDevice));
  }
  return data;
}

}  // namespace winnow
