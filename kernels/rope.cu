#include "kernels/cuda_types.cuh"
#include "kernels/paged_attention.h"
#include "kernels/rope.h"

namespace winnow {
namespace {

constexpr int kThreads = 256;

// cos and sin of a row's position, computed once for all its heads. [half] each.
__device__ void FillAngles(float2* angles, int32_t position, const float* inv_freq, int half,
                           float scale) {
  for (int c = threadIdx.x; c < half; c += blockDim.x) {
    float sin, cos;
    sincosf(static_cast<float>(position) * inv_freq[c], &sin, &cos);
    angles[c] = make_float2(cos * scale, sin * scale);
  }
  __syncthreads();
}

// One head by one warp: `in` and `out` [head_dim] may be the same.
template <typename T>
__device__ void NormAndRotate(const T* in, T* out, const float2* angles, int half,
                              const HeadNorm& norm) {
  const int lane = threadIdx.x % 32;
  float factor = 1.0f;
  const T* weight = static_cast<const T*>(norm.weight);
  if (weight != nullptr) {
    float sum = 0.0f;
    for (int c = lane; c < 2 * half; c += 32) sum += Load(in[c]) * Load(in[c]);
    factor = 1.0f / sqrtf(WarpSum(sum) / static_cast<float>(2 * half) + norm.eps);
  }
  const auto element = [&](int c) {
    const float x = Load(in[c]);
    return weight == nullptr ? x : Load(Store<T>(x * factor * Load(weight[c])));
  };
  for (int c = lane; c < half; c += 32) {
    const float a = element(c), b = element(c + half);
    out[c] = Store<T>(a * angles[c].x - b * angles[c].y);
    out[c + half] = Store<T>(b * angles[c].x + a * angles[c].y);
  }
}

template <typename T>
__global__ void RopeKernel(RopeParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2;
  FillAngles(angles, p.positions[blockIdx.x], p.inv_freq, half, p.scale);
  T* row = static_cast<T*>(p.x) + blockIdx.x * p.x_stride;  // [heads][head_dim]
  for (int h = threadIdx.x / 32; h < p.heads; h += kThreads / 32) {
    T* head = row + h * p.head_dim;
    NormAndRotate(head, head, angles, half, p.norm);
  }
}

template <typename T>
__global__ void StoreKvKernel(StoreKvParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2, lane = threadIdx.x % 32;
  FillAngles(angles, p.positions[blockIdx.x], p.inv_freq, half, p.scale);
  const int64_t width = int64_t{p.heads} * p.head_dim;
  const T* k = static_cast<const T*>(p.kv) + blockIdx.x * 2 * width;  // [heads][head_dim]
  for (int h = threadIdx.x / 32; h < p.heads; h += kThreads / 32) {
    const int64_t to = (h * p.capacity + p.slot_begin + blockIdx.x) * p.head_dim;
    NormAndRotate(k + h * p.head_dim, static_cast<T*>(p.k_cache) + to, angles, half, p.norm);
    for (int c = lane; c < p.head_dim; c += 32) {
      static_cast<T*>(p.v_cache)[to + c] = k[width + h * p.head_dim + c];
    }
  }
}

template <typename T>
__global__ void PagedStoreKvKernel(PagedStoreKvParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2, lane = threadIdx.x % 32, b = blockIdx.x;
  FillAngles(angles, p.positions[b], p.inv_freq, half, p.scale);
  const int64_t width = int64_t{p.kv_heads} * p.head_dim;
  const T* k = static_cast<const T*>(p.kv) + b * 2 * width;  // [kv_heads][head_dim]
  const int64_t block = p.block_table[b * p.max_blocks + p.slots[b] / p.block_size];
  for (int h = threadIdx.x / 32; h < p.kv_heads; h += kThreads / 32) {
    const int64_t to =
        ((block * p.kv_heads + h) * p.block_size + p.slots[b] % p.block_size) * p.head_dim;
    NormAndRotate(k + h * p.head_dim, static_cast<T*>(p.k_blocks) + to, angles, half, p.norm);
    for (int c = lane; c < p.head_dim; c += 32) {
      static_cast<T*>(p.v_blocks)[to + c] = k[width + h * p.head_dim + c];
    }
  }
}

}  // namespace

void PagedStoreKvCuda(const PagedStoreKvParams& p, CudaStream stream) {
  if (p.batch == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    PagedStoreKvKernel<T>
        <<<static_cast<unsigned>(p.batch), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(p);
  });
}

void RopeCuda(const RopeParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    RopeKernel<T>
        <<<static_cast<unsigned>(p.rows), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(p);
  });
}

void StoreKvCuda(const StoreKvParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    StoreKvKernel<T>
        <<<static_cast<unsigned>(p.rows), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(p);
  });
}

}  // namespace winnow
