#include "kernels/attention.h"

#include "kernels/attention_sm80.h"
#include "kernels/attention_sm90.h"
#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxHeadDim = 256;

// For what has no fast path (f32, odd head sizes, unaligned rows, older GPUs): a warp per (row,
// head) walks the keys with a running maximum.
template <typename T>
__global__ void AttentionKernel(AttentionParams p) {
  const int64_t pair = blockIdx.x * int64_t{kWarps} + threadIdx.x / 32;
  if (pair >= p.rows * p.q_heads) return;
  const int lane = threadIdx.x % 32;
  const int64_t row = pair / p.q_heads;
  const int head = static_cast<int>(pair % p.q_heads);
  const int64_t base = int64_t{head / (p.q_heads / p.kv_heads)} * p.capacity * p.head_dim;
  const T* k = static_cast<const T*>(p.k) + base;
  const T* v = static_cast<const T*>(p.v) + base;
  const T* q = static_cast<const T*>(p.q) + row * p.q_stride + int64_t{head} * p.head_dim;
  const int64_t visible = p.first_visible + (p.positions != nullptr ? p.positions[row] : row);
  constexpr int kPerLane = kMaxHeadDim / 32;
  float query[kPerLane], sum[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + 32 * i;
    query[i] = c < p.head_dim ? Load(q[c]) : 0.0f;
    sum[i] = 0.0f;
  }
  const float scale = 1.0f / sqrtf(static_cast<float>(p.head_dim));
  float highest = -INFINITY, denominator = 0.0f;
  for (int64_t j = 0; j < visible; ++j) {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + 32 * i;
      if (c < p.head_dim) dot += query[i] * Load(k[j * p.head_dim + c]);
    }
    const float score = WarpSum(dot) * scale;
    const float top = fmaxf(highest, score);
    const float old = expf(highest - top), weight = expf(score - top);
    highest = top;
    denominator = denominator * old + weight;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = lane + 32 * i;
      if (c < p.head_dim) sum[i] = sum[i] * old + weight * Load(v[j * p.head_dim + c]);
    }
  }
  T* out = static_cast<T*>(p.out) + pair * p.head_dim;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int c = lane + 32 * i;
    if (c < p.head_dim) out[c] = Store<T>(sum[i] / denominator);
  }
  if (p.lse != nullptr && lane == 0 && row >= p.lse_begin) {
    p.lse[head * (p.rows - p.lse_begin) + row - p.lse_begin] = highest + logf(denominator);
  }
}

}  // namespace

void AttentionCuda(const AttentionParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  const int major = ComputeCapabilityMajor();
  if (major == 9 && AttentionSm90Supports(p)) return AttentionSm90(p, stream);
  if (major >= 8 && AttentionSm80Supports(p)) return AttentionSm80(p, stream);
  DispatchDType(p.dtype, [&]<typename T>() {
    AttentionKernel<T><<<NumBlocks(p.rows * p.q_heads, kWarps), kWarps * 32, 0, stream>>>(p);
  });
}

}  // namespace winnow
