#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/rope.h"

namespace winnow {
namespace {

// cos and sin of one row, computed once for all its heads.
struct Angles {
  explicit Angles(int head_dim) : cos(head_dim / 2), sin(head_dim / 2) {}
  void Fill(int32_t position, const float* inv_freq, float scale) {
    for (size_t c = 0; c < cos.size(); ++c) {
      const float angle = static_cast<float>(position) * inv_freq[c];
      cos[c] = std::cos(angle) * scale;
      sin[c] = std::sin(angle) * scale;
    }
  }
  std::vector<float> cos, sin;
};

template <typename T>
void Rotate(const T* in, T* out, const Angles& angles) {
  const auto half = static_cast<int>(angles.cos.size());
  for (int c = 0; c < half; ++c) {
    const float a = ToFloat(in[c]), b = ToFloat(in[c + half]);
    out[c] = FromFloat<T>(a * angles.cos[c] - b * angles.sin[c]);
    out[c + half] = FromFloat<T>(b * angles.cos[c] + a * angles.sin[c]);
  }
}

template <typename T>
void RunRope(const RopeParams& p) {
#pragma omp parallel if (p.rows >= 64)
  {
    Angles angles(p.head_dim);
#pragma omp for
    for (int64_t i = 0; i < p.rows; ++i) {
      angles.Fill(p.positions[i], p.inv_freq, p.scale);
      T* row = static_cast<T*>(p.x) + i * p.x_stride;
      for (int h = 0; h < p.heads; ++h) Rotate(row + h * p.head_dim, row + h * p.head_dim, angles);
    }
  }
}

template <typename T>
void RunStoreKv(const StoreKvParams& p) {
  const int64_t width = int64_t{p.heads} * p.head_dim;
#pragma omp parallel if (p.rows >= 64)
  {
    Angles angles(p.head_dim);
#pragma omp for
    for (int64_t i = 0; i < p.rows; ++i) {
      angles.Fill(p.positions[i], p.inv_freq, p.scale);
      const T* k = static_cast<const T*>(p.kv) + i * 2 * width;
      for (int h = 0; h < p.heads; ++h) {
        const int64_t to = (h * p.capacity + p.slot_begin + i) * p.head_dim;
        Rotate(k + h * p.head_dim, static_cast<T*>(p.k_cache) + to, angles);
        std::memcpy(static_cast<T*>(p.v_cache) + to, k + width + h * p.head_dim, p.head_dim * sizeof(T));
      }
    }
  }
}

}  // namespace

void RopeCpu(const RopeParams& p) { p.dtype == DType::kF32 ? RunRope<float>(p) : RunRope<Bf16>(p); }
void StoreKvCpu(const StoreKvParams& p) { p.dtype == DType::kF32 ? RunStoreKv<float>(p) : RunStoreKv<Bf16>(p); }

}  // namespace winnow
