#include <cmath>

#include "kernels/rope.h"

namespace winnow {
namespace {

template <typename T>
void Norm(const T* in, T* out, const HeadNorm& norm, int head_dim) {
  float sum = 0.0f;
  for (int c = 0; c < head_dim; ++c) sum += ToFloat(in[c]) * ToFloat(in[c]);
  const float factor = 1.0f / std::sqrt(sum / static_cast<float>(head_dim) + norm.eps);
  const T* weight = static_cast<const T*>(norm.weight);
  for (int c = 0; c < head_dim; ++c) {
    out[c] = FromFloat<T>(ToFloat(in[c]) * factor * ToFloat(weight[c]));
  }
}

template <typename T>
void Rotate(const T* in, T* out, int32_t position, const float* inv_freq, int head_dim,
            float scale) {
  const int half = head_dim / 2;
  for (int c = 0; c < half; ++c) {
    const float angle = static_cast<float>(position) * inv_freq[c];
    const float cos = std::cos(angle) * scale, sin = std::sin(angle) * scale;
    const float a = ToFloat(in[c]), b = ToFloat(in[c + half]);
    out[c] = FromFloat<T>(a * cos - b * sin);
    out[c + half] = FromFloat<T>(b * cos + a * sin);
  }
}

template <typename T>
void RunRope(const RopeParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int h = 0; h < p.heads; ++h) {
      T* x = static_cast<T*>(p.x) + i * p.x_stride + h * p.head_dim;
      if (p.norm.weight != nullptr) Norm(x, x, p.norm, p.head_dim);
      Rotate(x, x, p.positions[i], p.inv_freq, p.head_dim, p.scale);
    }
  }
}

template <typename T>
void RunStoreKv(const StoreKvParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int h = 0; h < p.heads; ++h) {
      const T* k = static_cast<const T*>(p.kv) + (i * 2 * p.heads + h) * p.head_dim;
      const T* v = k + int64_t{p.heads} * p.head_dim;
      const int64_t to = (h * p.capacity + p.slot_begin + i) * p.head_dim;
      T* slot = static_cast<T*>(p.k_cache) + to;
      if (p.norm.weight != nullptr) Norm(k, slot, p.norm, p.head_dim);
      Rotate(p.norm.weight != nullptr ? slot : k, slot, p.positions[i], p.inv_freq, p.head_dim,
             p.scale);
      for (int c = 0; c < p.head_dim; ++c) static_cast<T*>(p.v_cache)[to + c] = v[c];
    }
  }
}

}  // namespace

void RopeRef(const RopeParams& p) { p.dtype == DType::kF32 ? RunRope<float>(p) : RunRope<Bf16>(p); }
void StoreKvRef(const StoreKvParams& p) {
  p.dtype == DType::kF32 ? RunStoreKv<float>(p) : RunStoreKv<Bf16>(p);
}

}  // namespace winnow
