#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu_clones.h"
#include "kernels/fast_sincos.h"
#include "kernels/rope.h"

namespace winnow {
namespace {

constexpr int64_t kMinParallelRows = 64;

// cos and sin of one row, computed once for all its heads.
WINNOW_CPU_CLONES void FillAngles(int32_t position, const float* inv_freq, float scale, int half,
                                  float* __restrict cos, float* __restrict sin) {
  for (int c = 0; c < half; ++c) {
    float s, k;
    FastSinCos(static_cast<float>(position) * inv_freq[c], &s, &k);
    sin[c] = s * scale;
    cos[c] = k * scale;
  }
}

// Norms `heads` heads in place, head_stride elements apart.
template <typename T>
WINNOW_CPU_CLONES void NormHeads(T* x, int heads, int64_t head_stride, int head_dim,
                                 const T* __restrict weight, float eps) {
  constexpr int kLanes = 16;  // partial sums, so that the loop vectorises
  for (int h = 0; h < heads; ++h) {
    T* head = x + h * head_stride;
    float sums[kLanes] = {};
    const int whole = head_dim - head_dim % kLanes;
    for (int c = 0; c < whole; c += kLanes) {
      for (int i = 0; i < kLanes; ++i) sums[i] += ToFloat(head[c + i]) * ToFloat(head[c + i]);
    }
    float sum = 0.0f;
    for (int c = whole; c < head_dim; ++c) sum += ToFloat(head[c]) * ToFloat(head[c]);
    for (const float lane : sums) sum += lane;
    const float factor = 1.0f / std::sqrt(sum / static_cast<float>(head_dim) + eps);
    for (int c = 0; c < head_dim; ++c) {
      head[c] = FromFloat<T>(ToFloat(head[c]) * factor * ToFloat(weight[c]));
    }
  }
}

// Rotates `heads` heads in place, head_stride elements apart. The halves are separate restrict
// pointers: seen as one array, the compiler would have to assume that a write to one changes the
// other.
template <typename T>
WINNOW_CPU_CLONES void RotateHeads(T* x, int heads, int64_t head_stride, int half,
                                   const float* __restrict cos, const float* __restrict sin) {
  for (int h = 0; h < heads; ++h) {
    T* __restrict low = x + h * head_stride;          // [half]
    T* __restrict high = x + h * head_stride + half;  // [half]
    for (int c = 0; c < half; ++c) {
      const float a = ToFloat(low[c]), b = ToFloat(high[c]);
      low[c] = FromFloat<T>(a * cos[c] - b * sin[c]);
      high[c] = FromFloat<T>(b * cos[c] + a * sin[c]);
    }
  }
}

template <typename T>
void RunRope(const RopeParams& p) {
  const int half = p.head_dim / 2;
#pragma omp parallel if (p.rows >= kMinParallelRows)
  {
    std::vector<float> cos(half), sin(half);
#pragma omp for
    for (int64_t i = 0; i < p.rows; ++i) {
      T* x = static_cast<T*>(p.x) + i * p.x_stride;
      if (p.norm.weight != nullptr) {
        NormHeads(x, p.heads, p.head_dim, p.head_dim, static_cast<const T*>(p.norm.weight),
                  p.norm.eps);
      }
      FillAngles(p.positions[i], p.inv_freq, p.scale, half, cos.data(), sin.data());
      RotateHeads(x, p.heads, p.head_dim, half, cos.data(), sin.data());
    }
  }
}

template <typename T>
void RunStoreKv(const StoreKvParams& p) {
  const int half = p.head_dim / 2;
  const int64_t width = int64_t{p.heads} * p.head_dim, head_stride = p.capacity * p.head_dim;
#pragma omp parallel if (p.rows >= kMinParallelRows)
  {
    std::vector<float> cos(half), sin(half);
#pragma omp for
    for (int64_t i = 0; i < p.rows; ++i) {
      const T* k = static_cast<const T*>(p.kv) + i * 2 * width;  // [heads][head_dim]
      T* k_slot =
          static_cast<T*>(p.k_cache) + (p.slot_begin + i) * p.head_dim;  // heads head_stride apart
      T* v_slot = static_cast<T*>(p.v_cache) + (p.slot_begin + i) * p.head_dim;
      for (int h = 0; h < p.heads; ++h) {
        std::memcpy(k_slot + h * head_stride, k + h * p.head_dim, p.head_dim * sizeof(T));
        std::memcpy(v_slot + h * head_stride, k + width + h * p.head_dim, p.head_dim * sizeof(T));
      }
      if (p.norm.weight != nullptr) {
        NormHeads(k_slot, p.heads, head_stride, p.head_dim, static_cast<const T*>(p.norm.weight),
                  p.norm.eps);
      }
      FillAngles(p.positions[i], p.inv_freq, p.scale, half, cos.data(), sin.data());
      RotateHeads(k_slot, p.heads, head_stride, half, cos.data(), sin.data());
    }
  }
}

}  // namespace

void RopeCpu(const RopeParams& p) { p.dtype == DType::kF32 ? RunRope<float>(p) : RunRope<Bf16>(p); }
void StoreKvCpu(const StoreKvParams& p) {
  p.dtype == DType::kF32 ? RunStoreKv<float>(p) : RunStoreKv<Bf16>(p);
}

}  // namespace winnow
