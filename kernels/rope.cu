#include <initializer_list>
#include <type_traits>

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

// Two neighbours, moved at once.
template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T a, b;
};

// One head by one warp: `in` and `out` [head_dim] may be the same. Two neighbours of each half per
// lane. REQUIRES: half is even and in and out are aligned for pairs, or kPairs is false.
template <bool kPairs, typename T>
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
  const auto scaled = [&](T stored, int c) {
    const float x = Load(stored);
    return weight == nullptr ? x : Load(Store<T>(x * factor * Load(weight[c])));
  };
  if constexpr (kPairs) {
    for (int c = 2 * lane; c < half; c += 64) {
      const auto low = *reinterpret_cast<const Pair<T>*>(in + c);
      const auto high = *reinterpret_cast<const Pair<T>*>(in + half + c);
      const float2 first = angles[c], second = angles[c + 1];
      const float a = scaled(low.a, c), b = scaled(low.b, c + 1);
      const float x = scaled(high.a, half + c), y = scaled(high.b, half + c + 1);
      *reinterpret_cast<Pair<T>*>(out + c) = {Store<T>(a * first.x - x * first.y),
                                              Store<T>(b * second.x - y * second.y)};
      *reinterpret_cast<Pair<T>*>(out + half + c) = {Store<T>(x * first.x + a * first.y),
                                                     Store<T>(y * second.x + b * second.y)};
    }
  } else {
    for (int c = lane; c < half; c += 32) {
      const float a = scaled(in[c], c), b = scaled(in[c + half], c + half);
      out[c] = Store<T>(a * angles[c].x - b * angles[c].y);
      out[c + half] = Store<T>(b * angles[c].x + a * angles[c].y);
    }
  }
}

// A head's values, by one warp.
template <bool kPairs, typename T>
__device__ void CopyHead(const T* in, T* out, int head_dim) {
  using Unit = std::conditional_t<kPairs, Pair<T>, T>;
  constexpr int kSize = sizeof(Unit) / sizeof(T);
  for (int c = threadIdx.x % 32; c < head_dim / kSize; c += 32) {
    reinterpret_cast<Unit*>(out)[c] = reinterpret_cast<const Unit*>(in)[c];
  }
}

// Whether heads that begin at these addresses, and rows of `stride` elements, can be moved in
// pairs.
template <typename T>
bool CanPair(int head_dim, int64_t stride, std::initializer_list<const void*> addresses) {
  bool can = head_dim % 4 == 0 && stride % 2 == 0;
  for (const void* address : addresses) {
    can = can && reinterpret_cast<uintptr_t>(address) % sizeof(Pair<T>) == 0;
  }
  return can;
}

template <bool kPairs, typename T>
__global__ void RopeKernel(RopeParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2;
  FillAngles(angles, p.positions[blockIdx.x], p.inv_freq, half, p.scale);
  T* row = static_cast<T*>(p.x) + blockIdx.x * p.x_stride;  // [heads][head_dim]
  for (int h = threadIdx.x / 32; h < p.heads; h += kThreads / 32) {
    T* head = row + h * p.head_dim;
    NormAndRotate<kPairs>(head, head, angles, half, p.norm);
  }
}

template <bool kPairs, typename T>
__global__ void StoreKvKernel(StoreKvParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2;
  FillAngles(angles, p.positions[blockIdx.x], p.inv_freq, half, p.scale);
  const int64_t width = int64_t{p.heads} * p.head_dim;
  const T* k = static_cast<const T*>(p.kv) + blockIdx.x * 2 * width;  // [heads][head_dim]
  for (int h = threadIdx.x / 32; h < p.heads; h += kThreads / 32) {
    const int64_t to = (h * p.capacity + p.slot_begin + blockIdx.x) * p.head_dim;
    NormAndRotate<kPairs>(k + h * p.head_dim, static_cast<T*>(p.k_cache) + to, angles, half,
                          p.norm);
    CopyHead<kPairs>(k + width + h * p.head_dim, static_cast<T*>(p.v_cache) + to, p.head_dim);
  }
}

template <bool kPairs, typename T>
__global__ void PagedStoreKvKernel(PagedStoreKvParams p) {
  extern __shared__ float2 angles[];
  const int half = p.head_dim / 2, b = blockIdx.x;
  FillAngles(angles, p.positions[b], p.inv_freq, half, p.scale);
  const int64_t width = int64_t{p.kv_heads} * p.head_dim;
  const T* k = static_cast<const T*>(p.kv) + b * 2 * width;  // [kv_heads][head_dim]
  const int64_t block = p.block_table[b * p.table_stride + p.slots[b] / p.block_size];
  for (int h = threadIdx.x / 32; h < p.kv_heads; h += kThreads / 32) {
    const int64_t to =
        ((block * p.kv_heads + h) * p.block_size + p.slots[b] % p.block_size) * p.head_dim;
    NormAndRotate<kPairs>(k + h * p.head_dim, static_cast<T*>(p.k_blocks) + to, angles, half,
                          p.norm);
    CopyHead<kPairs>(k + width + h * p.head_dim, static_cast<T*>(p.v_blocks) + to, p.head_dim);
  }
}

}  // namespace

void PagedStoreKvCuda(const PagedStoreKvParams& p, CudaStream stream) {
  if (p.batch == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    const auto kernel = CanPair<T>(p.head_dim, 0, {p.kv, p.k_blocks, p.v_blocks})
                            ? PagedStoreKvKernel<true, T>
                            : PagedStoreKvKernel<false, T>;
    kernel<<<static_cast<unsigned>(p.batch), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(
        p);
  });
}

void RopeCuda(const RopeParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    const auto kernel =
        CanPair<T>(p.head_dim, p.x_stride, {p.x}) ? RopeKernel<true, T> : RopeKernel<false, T>;
    kernel<<<static_cast<unsigned>(p.rows), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(p);
  });
}

void StoreKvCuda(const StoreKvParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    const auto kernel = CanPair<T>(p.head_dim, 0, {p.kv, p.k_cache, p.v_cache})
                            ? StoreKvKernel<true, T>
                            : StoreKvKernel<false, T>;
    kernel<<<static_cast<unsigned>(p.rows), kThreads, p.head_dim / 2 * sizeof(float2), stream>>>(p);
  });
}

}  // namespace winnow
