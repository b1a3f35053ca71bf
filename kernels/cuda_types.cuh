#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Calls f.template operator()<T>() with the CUDA element type of `dtype`.
template <typename F>
void DispatchDType(DType dtype, F&& f) {
  dtype == DType::kF32 ? f.template operator()<float>() : f.template operator()<__nv_bfloat16>();
}

__device__ inline float Load(float x) { return x; }
__device__ inline float Load(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ T Store(float x);
template <>
__device__ inline float Store<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 Store<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// 16 bytes of T, moved at once.
template <typename T>
struct alignas(16) Vec16 {
  static constexpr int kSize = 16 / sizeof(T);
  T v[kSize];
};
inline bool IsAligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

__device__ inline float WarpSum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}
__device__ inline float WarpMax(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}

// Sum over the block; every thread gets it. `scratch` holds 32 floats. REQUIRES: blockDim.x is a
// multiple of 32.
__device__ inline float BlockSum(float value, float* scratch) {
  value = WarpSum(value);
  const int warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = WarpSum(threadIdx.x % 32 < warps ? scratch[threadIdx.x % 32] : 0.0f);
  __syncthreads();
  return value;
}

// The kernel, allowed to use so much dynamic shared memory.
template <typename Kernel>
Kernel* WithShared(Kernel* kernel, size_t bytes) {
  cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                       cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  return kernel;
}

// Whether a block may have so much shared memory in all.
inline bool FitsShared(size_t bytes) {
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes <= static_cast<size_t>(most);
}

// Of the first device that was asked about: those of one process are alike.
inline int ComputeCapabilityMajor() {
  static const int capability = [] {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major;
  }();
  return capability;
}

inline unsigned NumBlocks(int64_t items, int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

}  // namespace winnow
