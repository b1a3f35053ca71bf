#include <cuda.h>

#include <cstdint>

#include "kernels/paired_matmul_sm90_kernel.cuh"
#include "kernels/rotated_matmul.h"

namespace winnow {
namespace {

using namespace sm90;  // NOLINT: the kernel's parts

constexpr int kHeadDim = kTileColumns, kHalf = kHeadDim / 2;

// sin and cos to 2^-20, far below what bf16 keeps. |angle| < 2^20.
__device__ float2 CosSin(float angle) {
  const float turns = rintf(angle * 0.159154943f);
  // 2π as two floats; the first step is exact but for its last rounding.
  const float r = fmaf(turns, 1.7484555e-7f, fmaf(turns, -6.2831855f, angle));
  return make_float2(__cosf(r), __sinf(r));
}

__device__ void RotatePair(float& low, float& high, float2 by) {
  const float a = low, b = high;
  low = a * by.x - b * by.y;
  high = b * by.x + a * by.y;
}

// The halves are heads of queries, the first ones and the others, or keys and values.
struct Rotate {
  CUtensorMap first, second;  // [heads of the half][rows][kHeadDim], where they go
  const int32_t* positions;   // [rows]
  const float* inv_freq;      // [kHalf]
  float scale;
  int rows;
  bool rotates_second;

  __device__ void Finish(PairedSums& d, int row, int column, const PairedOut& to) const {
    const int lane = threadIdx.x % 32, own_row = row + threadIdx.x % 128 / 32 * 16 + lane / 4;
    float position[2];  // of the two rows whose sums this thread has
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      position[k] = own_row + 8 * k < rows ? static_cast<float>(positions[own_row + 8 * k]) : 0.0f;
    }
#pragma unroll
    for (int c = 0; c < kHalf; c += 8) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float frequency = inv_freq[c + 2 * (lane % 4) + j];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const float2 unit = CosSin(position[k] * frequency);
          const float2 by = make_float2(unit.x * scale, unit.y * scale);
          const int i = c / 2 + 2 * k + j;
          RotatePair(d[i], d[i + kHalf / 2], by);
          if (rotates_second) RotatePair(d[i + kHeadDim / 2], d[i + kHeadDim / 2 + kHalf / 2], by);
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      to.Begin();
#pragma unroll
      for (int c = 0; c < kHeadDim; c += 16) to.Put(c, d + half * kHeadDim / 2 + c / 2);
      to.Send(half == 0 ? &first : &second, 0, row, column / kHeadDim);
    }
  }
};

bool Supports(const MatmulWeight& w, const MatmulParams& p, int head_dim, const HeadNorm& norm) {
  return PairedMatmulSupports(w, p.x, p.x_stride, p.rows) && head_dim == kHeadDim &&
         p.bias == nullptr && norm.weight == nullptr && !p.accumulate;
}

}  // namespace

bool RotatedMatmulSm90Supports(const MatmulWeight& w, const MatmulParams& p, const RopeParams& q) {
  return Supports(w, p, q.head_dim, q.norm) && p.out_dtype == DType::kBf16 && IsAligned16(p.out) &&
         q.x == p.out && q.rows == p.rows && q.x_stride == w.out_features &&
         int64_t{q.heads} * q.head_dim == w.out_features;
}

bool RotatedMatmulSm90Supports(const MatmulWeight& w, const MatmulParams& p,
                               const StoreKvParams& kv) {
  return Supports(w, p, kv.head_dim, kv.norm) && IsAligned16(kv.k_cache) &&
         IsAligned16(kv.v_cache) && kv.rows == p.rows &&
         int64_t{2} * kv.heads * kv.head_dim == w.out_features;
}

bool RotatedMatmulSm90Pays(const MatmulWeight& w, int64_t rows) {
  return PairedMatmulFill(w, rows) >= 0.8;
}

void RotatedMatmulSm90(const MatmulWeight& w, const MatmulParams& p, const RopeParams& q,
                       CudaStream stream) {
  if (p.rows == 0) return;
  const int64_t size[3] = {kHeadDim, p.rows, q.heads / 2};
  auto* out = static_cast<uint16_t*>(p.out);
  Rotate rotate{.positions = q.positions,
                .inv_freq = q.inv_freq,
                .scale = q.scale,
                .rows = static_cast<int>(p.rows),
                .rotates_second = true};
  if (!MakeTensorMap(&rotate.first, out, size, q.x_stride, kHeadDim, kWarpgroupRows, 1) ||
      !MakeTensorMap(&rotate.second, out + size[2] * kHeadDim, size, q.x_stride, kHeadDim,
                     kWarpgroupRows, 1)) {
    return RefuseLaunch(stream);
  }
  LaunchPairedMatmul(w, p.x, p.x_stride, p.rows, rotate, stream);
}

void RotatedMatmulSm90(const MatmulWeight& w, const MatmulParams& p, const StoreKvParams& kv,
                       CudaStream stream) {
  if (p.rows == 0) return;
  const int64_t size[3] = {kHeadDim, p.rows, kv.heads}, begin = kv.slot_begin * kHeadDim;
  Rotate rotate{.positions = kv.positions,
                .inv_freq = kv.inv_freq,
                .scale = kv.scale,
                .rows = static_cast<int>(p.rows),
                .rotates_second = false};
  if (!MakeTensorMap(&rotate.first, static_cast<uint16_t*>(kv.k_cache) + begin, size, kHeadDim,
                     kv.capacity * kHeadDim, kWarpgroupRows, 1) ||
      !MakeTensorMap(&rotate.second, static_cast<uint16_t*>(kv.v_cache) + begin, size, kHeadDim,
                     kv.capacity * kHeadDim, kWarpgroupRows, 1)) {
    return RefuseLaunch(stream);
  }
  LaunchPairedMatmul(w, p.x, p.x_stride, p.rows, rotate, stream);
}

}  // namespace winnow
