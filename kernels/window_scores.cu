#include "kernels/window_scores_cuda.cuh"

// Four kernels: each chunk of keys finds its part of the softmax denominators, the parts are
// merged, the weights are summed over the window, and the sums are pooled and grouped. K is read
// twice, or once where attention has left the denominators; no W × N matrix exists. The first and
// the third have a faster version on tensor cores.

namespace winnow {
namespace {

constexpr int kKeys = kScoreKeys;  // per block, one per thread
constexpr int kQueries = 8;        // whose products a thread makes at once

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
__global__ void DenominatorKernel(WindowScoresParams p, ScorePart* parts) {
  extern __shared__ float q[];
  __shared__ ScorePart warps[kKeys / 32];
  const int head = blockIdx.y;
  const T* keys = LoadQueries<T>(p, head, q);
  const int64_t j = blockIdx.x * int64_t{kKeys} + threadIdx.x;
  ScorePart* out = parts + (int64_t{head} * gridDim.x + blockIdx.x) * p.window;
  for (int first = 0; first < p.window; first += kQueries) {
    float s[kQueries];
    if (j < p.window_begin + p.window) {
      Products(q, keys + j * p.head_dim, first, p.window, p.head_dim, s);
    }
    for (int i = 0; i < kQueries && first + i < p.window; ++i) {
      const bool seen = j <= p.window_begin + first + i;
      ScorePart part = seen ? ScorePart{s[i], 1.0f} : ScorePart{-INFINITY, 0.0f};
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
__global__ void MergeKernel(const ScorePart* parts, float* lse, int chunks, int window) {
  const int head = blockIdx.x, i = blockIdx.y;
  ScorePart part{-INFINITY, 0.0f};
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
__global__ void WeightKernel(WindowScoresParams p, float* sums) {
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
      sum += expf(s[i] - p.lse[head * p.lse_stride + first + i]);
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
        parts_bytes(p.q_heads * chunks * p.window * int64_t{sizeof(ScorePart)}),
        lse_bytes(int64_t{p.q_heads} * p.window * int64_t{sizeof(float)}),
        sums_bytes(p.q_heads * p.window_begin * int64_t{sizeof(float)}) {}
};

}  // namespace

int64_t WindowScoresWorkspace(const WindowScoresParams& p) {
  const Workspace sizes(p);
  return sizes.parts_bytes + sizes.lse_bytes + sizes.sums_bytes;
}

void WindowScoresCuda(const WindowScoresParams& params, void* workspace, CudaStream stream) {
  WindowScoresParams p = params;
  const Workspace sizes(p);
  auto* parts = static_cast<ScorePart*>(workspace);
  auto* lse = reinterpret_cast<float*>(static_cast<char*>(workspace) + sizes.parts_bytes);
  auto* sums = reinterpret_cast<float*>(reinterpret_cast<char*>(lse) + sizes.lse_bytes);
  const auto heads = static_cast<unsigned>(p.q_heads);
  const auto chunks = static_cast<unsigned>(sizes.chunks);
  const bool has_mma = HasWindowScoresMma(p);
  const size_t shared = sizeof(float) * p.window * p.head_dim;
  if (p.lse == nullptr) {
    if (has_mma) {
      DenominatorPartsMma(p, parts, stream);
    } else {
      DispatchDType(p.dtype, [&]<typename T>() {
        WithShared(DenominatorKernel<T>, shared)<<<dim3(chunks, heads), kKeys, shared, stream>>>(
            p, parts);
      });
    }
    MergeKernel<<<dim3(heads, p.window), 32, 0, stream>>>(parts, lse, static_cast<int>(chunks),
                                                          p.window);
    p.lse = lse;
    p.lse_stride = p.window;
  }
  if (has_mma) {
    WeightSumsMma(p, sums, stream);
  } else {
    const dim3 grid(NumBlocks(p.window_begin, kKeys), heads);
    DispatchDType(p.dtype, [&]<typename T>() {
      WithShared(WeightKernel<T>, shared)<<<grid, kKeys, shared, stream>>>(p, sums);
    });
  }
  PoolKernel<<<dim3(NumBlocks(p.window_begin, 256), p.kv_heads), 256, 0, stream>>>(p, sums);
}

void GatherWindowCuda(const GatherWindowParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    GatherWindowKernel<T><<<dim3(p.rows, p.q_heads), 64, 0, stream>>>(p);
  });
}

}  // namespace winnow
