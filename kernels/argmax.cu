#include "kernels/argmax.h"

#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

constexpr int kThreads = 1024;

// Higher first; of equals the lower column.
struct Candidate {
  float value = -INFINITY;
  int32_t column = INT32_MAX;
  __device__ void Take(Candidate other) {
    if (other.value > value || (other.value == value && other.column < column)) *this = other;
  }
};

__device__ Candidate WarpBest(Candidate best) {
  for (int offset = 16; offset > 0; offset /= 2) {
    best.Take(
        {__shfl_xor_sync(~0u, best.value, offset), __shfl_xor_sync(~0u, best.column, offset)});
  }
  return best;
}

__global__ void ArgMaxKernel(ArgMaxParams p) {
  __shared__ Candidate warps[32];
  const float* row = p.in + blockIdx.x * p.width;
  Candidate best;
  bool has_nan = false;
  for (int64_t c = threadIdx.x; c < p.width; c += kThreads) {
    has_nan |= isnan(row[c]);
    best.Take({row[c], static_cast<int32_t>(c)});
  }
  best = WarpBest(best);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
  has_nan = __syncthreads_or(has_nan);
  if (threadIdx.x >= 32) return;
  best = WarpBest(warps[threadIdx.x]);
  if (threadIdx.x == 0) p.out[blockIdx.x] = has_nan || isinf(best.value) ? -1 : best.column;
}

}  // namespace

void ArgMaxCuda(const ArgMaxParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  ArgMaxKernel<<<static_cast<unsigned>(p.rows), kThreads, 0, stream>>>(p);
}

}  // namespace winnow
