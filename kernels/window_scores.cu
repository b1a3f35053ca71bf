#include "kernels/cuda_types.cuh"
#include "kernels/window_scores.h"

// Four kernels: each chunk of keys finds its part of the softmax denominators, the parts are
// merged, the weights are summed over the window, and the sums are pooled and grouped. K is read
// twice; no W × N matrix exists.

namespace winnow {
namespace {

constexpr int kKeys = 128;   // per block, one per thread
constexpr int kQueries = 8;  // whose products a thread makes at once

// Running maximum and sum of exp(s − max).
struct Part {
  float max, sum;
};
__device__ Part Merge(Part a, Part b) {
  const float max = fmaxf(a.max, b.max);
  if (max == -INFINITY) return {max, a.sum + b.sum};  // a NaN in a sum stays
  return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

// Products of this thread's key with queries [first, first + kQueries) of a head, scaled; q is
// shared memory [window][head_dim].
template <typename T>
__device__ void Products(const float* q, const T* key, int first, int window, int head_dim,
                         float (&s)[kQueries]) {
#pragma unroll
  for (int i = 0; i < kQueries; ++i) s[i] = 0.0f;
  for (int c = 0; c < head_dim; ++c) {
    const float x = Load(key[c]);
#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
      if (first + i < window) s[i] += x * q[(first + i) * head_dim + c];
    }
  }
  const float scale = 1.0f / sqrtf(static_cast<float>(head_dim));
#pragma unroll
  for (int i = 0; i < kQueries; ++i) s[i] *= scale;
}

template <typename T>
__device__ const T* LoadQueries(const WindowScoresParams& p, int head, float* q) {
  const T* from = static_cast<const T*>(p.q) + int64_t{head} * p.window * p.head_dim;
  for (int i = threadIdx.x; i < p.window * p.head_dim; i += blockDim.x) q[i] = Load(from[i]);
  __syncthreads();
  const int kv_head = head / (p.q_heads / p.kv_heads);
  return static_cast<const T*>(p.k) + int64_t{kv_head} * p.capacity * p.head_dim;
}

// parts [q_heads][chunks][window]
template <typename T>
__global__ void DenominatorKernel(WindowScoresParams p, Part* parts) {
  extern __shared__ float q[];
  __shared__ Part warps[kKeys / 32];
  const int head = blockIdx.y;
  const T* keys = LoadQueries<T>(p, head, q);
  const int64_t j = blockIdx.x * int64_t{kKeys} + threadIdx.x;
  Part* out = parts + (int64_t{head} * gridDim.x + blockIdx.x) * p.window;
  for (int first = 0; first < p.window; first += kQueries) {
    float s[kQueries];
    if (j < p.window_begin + p.window) {
      Products(q, keys + j * p.head_dim, first, p.window, p.head_dim, s);
    }
    for (int i = 0; i < kQueries && first + i < p.window; ++i) {
      const bool seen = j <= p.window_begin + first + i;
      Part part = seen ? Part{s[i], 1.0f} : Part{-INFINITY, 0.0f};
      if (seen && isnan(s[i])) part = {-INFINITY, s[i]};
      for (int offset = 16; offset > 0; offset /= 2) {
        part = Merge(
            part, {__shfl_xor_sync(~0u, part.max, offset), __shfl_xor_sync(~0u, part.sum, offset)});
      }
      if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = part;
      __syncthreads();
      if (threadIdx.x == 0) {
        for (int w = 1; w < kKeys / 32; ++w) part = Merge(part, warps[w]);
        out[first + i] = part;
      }
      __syncthreads();
    }
  }
}

// One warp per (head, window row): the denominators' logarithms [q_heads][window].
__global__ void MergeKernel(const Part* parts, float* lse, int chunks, int window) {
  const int head = blockIdx.x, i = blockIdx.y;
  Part part{-INFINITY, 0.0f};
  for (int chunk = threadIdx.x; chunk < chunks; chunk += 32) {
    part = Merge(part, parts[(int64_t{head} * chunks + chunk) * window + i]);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    part = Merge(part,
                 {__shfl_xor_sync(~0u, part.max, offset), __shfl_xor_sync(~0u, part.sum, offset)});
  }
  if (threadIdx.x == 0) lse[head * window + i] = part.max + logf(part.sum);
}

// sums [q_heads][E]: a[h,j]
template <typename T>
__global__ void WeightKernel(WindowScoresParams p, const float* lse, float* sums) {
  extern __shared__ float q[];
  const int head = blockIdx.y;
  const T* keys = LoadQueries<T>(p, head, q);
  const int64_t j = blockIdx.x * int64_t{kKeys} + threadIdx.x;
  if (j >= p.window_begin) return;
  float sum = 0.0f;
  for (int first = 0; first < p.window; first += kQueries) {
    float s[kQueries];
    Products(q, keys + j * p.head_dim, first, p.window, p.head_dim, s);
    for (int i = 0; i < kQueries && first + i < p.window; ++i) {
      sum += expf(s[i] - lse[head * p.window + first + i]);
    }
  }
  sums[head * p.window_begin + j] = sum;
}

__global__ void PoolKernel(WindowScoresParams p, const float* sums) {
  const int64_t j = blockIdx.x * int64_t{256} + threadIdx.x;
  if (j >= p.window_begin) return;
  const int group = p.q_heads / p.kv_heads, reach = (p.pool_kernel - 1) / 2;
  const int64_t begin = max(j - reach, int64_t{0}), end = min(j + reach + 1, p.window_begin);
  float total = 0.0f;
  for (int g = 0; g < group; ++g) {
    const float* a = sums + (int64_t{blockIdx.y} * group + g) * p.window_begin;
    float pooled = 0.0f;
    for (int64_t t = begin; t < end; ++t) pooled += a[t];
    total += pooled / static_cast<float>(p.pool_kernel);
  }
  p.scores[blockIdx.y * p.window_begin + j] = total;
}

template <typename T>
__global__ void GatherWindowKernel(GatherWindowParams p) {
  const T* from =
      static_cast<const T*>(p.q) + blockIdx.x * p.q_stride + int64_t{blockIdx.y} * p.head_dim;
  T* to = static_cast<T*>(p.out) +
          (int64_t{blockIdx.y} * p.window + p.window_row + blockIdx.x) * p.head_dim;
  for (int c = threadIdx.x; c < p.head_dim; c += blockDim.x) to[c] = from[c];
}

struct Workspace {
  int64_t chunks, parts_bytes, lse_bytes, sums_bytes;
  explicit Workspace(const WindowScoresParams& p)
      : chunks(NumBlocks(p.window_begin + p.window, kKeys)),
        parts_bytes(p.q_heads * chunks * p.window * int64_t{sizeof(Part)}),
        lse_bytes(int64_t{p.q_heads} * p.window * int64_t{sizeof(float)}),
        sums_bytes(p.q_heads * p.window_begin * int64_t{sizeof(float)}) {}
};

}  // namespace

int64_t WindowScoresWorkspace(const WindowScoresParams& p) {
  const Workspace sizes(p);
  return sizes.parts_bytes + sizes.lse_bytes + sizes.sums_bytes;
}

void WindowScoresCuda(const WindowScoresParams& p, void* workspace, CudaStream stream) {
  const Workspace sizes(p);
  auto* parts = static_cast<Part*>(workspace);
  auto* lse = reinterpret_cast<float*>(static_cast<char*>(workspace) + sizes.parts_bytes);
  auto* sums = reinterpret_cast<float*>(reinterpret_cast<char*>(lse) + sizes.lse_bytes);
  const auto heads = static_cast<unsigned>(p.q_heads);
  const auto chunks = static_cast<unsigned>(sizes.chunks);
  const size_t shared = sizeof(float) * p.window * p.head_dim;
  DispatchDType(p.dtype, [&]<typename T>() {
    for (const auto kernel : {reinterpret_cast<const void*>(DenominatorKernel<T>),
                              reinterpret_cast<const void*>(WeightKernel<T>)}) {
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(shared));
    }
    DenominatorKernel<T><<<dim3(chunks, heads), kKeys, shared, stream>>>(p, parts);
    MergeKernel<<<dim3(heads, p.window), 32, 0, stream>>>(parts, lse, static_cast<int>(chunks),
                                                          p.window);
    WeightKernel<T>
        <<<dim3(NumBlocks(p.window_begin, kKeys), heads), kKeys, shared, stream>>>(p, lse, sums);
  });
  PoolKernel<<<dim3(NumBlocks(p.window_begin, 256), p.kv_heads), 256, 0, stream>>>(p, sums);
}

void GatherWindowCuda(const GatherWindowParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    GatherWindowKernel<T><<<dim3(p.rows, p.q_heads), 64, 0, stream>>>(p);
  });
}

}  // namespace winnow
