#include "kernels/paged_attention.h"

#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

constexpr int kWarps = 8;
constexpr int kMaxHeadDim = 256;
constexpr int kPerLane = kMaxHeadDim / 32;

// A block per (sequence, query head); its warps take entries in turn, each with its own running
// maximum, and merge at the end.
template <typename T>
__global__ void PagedAttentionKernel(PagedAttentionParams p) {
  __shared__ float highest[kWarps], denominators[kWarps], sums[kWarps][kMaxHeadDim];
  const int64_t sequence = blockIdx.x;
  const int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int kv_head = head / (p.q_heads / p.kv_heads);
  const int32_t* blocks = p.block_table + sequence * p.max_blocks;
  const T* q = static_cast<const T*>(p.q) + sequence * p.q_stride + int64_t{head} * p.head_dim;
  float query[kPerLane], sum[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + 32 * i;
    query[i] = c < p.head_dim ? Load(q[c]) : 0.0f;
    sum[i] = 0.0f;
  }
  const float scale = 1.0f / sqrtf(static_cast<float>(p.head_dim));
  float top = -INFINITY, denominator = 0.0f;
  for (int32_t j = warp; j < p.lengths[sequence]; j += kWarps) {
    const int64_t entry =
        ((int64_t{blocks[j / p.block_size]} * p.kv_heads + kv_head) * p.block_size +
         j % p.block_size) *
        p.head_dim;
    const T* k = static_cast<const T*>(p.k_blocks) + entry;
    const T* v = static_cast<const T*>(p.v_blocks) + entry;
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + 32 * i;
      if (c < p.head_dim) dot += query[i] * Load(k[c]);
    }
    const float score = WarpSum(dot) * scale;
    const float next = fmaxf(top, score);
    const float old = expf(top - next), weight = expf(score - next);
    top = next;
    denominator = denominator * old + weight;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + 32 * i;
      if (c < p.head_dim) sum[i] = sum[i] * old + weight * Load(v[c]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) sums[warp][lane + 32 * i] = sum[i];
  if (lane == 0) highest[warp] = top, denominators[warp] = denominator;
  __syncthreads();
  float best = highest[0], total = 0.0f;  // warp 0 always has an entry
  for (int w = 1; w < kWarps; ++w) best = fmaxf(best, highest[w]);
  for (int w = 0; w < kWarps; ++w) total += denominators[w] * expf(highest[w] - best);
  T* out = static_cast<T*>(p.out) + (sequence * p.q_heads + head) * p.head_dim;
  for (int c = threadIdx.x; c < p.head_dim; c += blockDim.x) {
    float value = 0.0f;
    for (int w = 0; w < kWarps; ++w) value += sums[w][c] * expf(highest[w] - best);
    out[c] = Store<T>(value / total);
  }
}

}  // namespace

void PagedAttentionCuda(const PagedAttentionParams& p, CudaStream stream) {
  if (p.batch == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    PagedAttentionKernel<T><<<dim3(p.batch, p.q_heads), kWarps * 32, 0, stream>>>(p);
  });
}

}  // namespace winnow
