#include "kernels/rms_norm.h"

#include <cmath>

namespace winnow {
namespace {

template <typename T>
void Run(const RmsNormParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    T* x = static_cast<T*>(p.x) + i * p.hidden;
    for (int c = 0; p.delta.count > 0 && c < p.hidden; ++c) {
      float delta = 0.0f;
      for (int a = 0; a < p.delta.count; ++a) {
        delta += ToFloat(static_cast<const T*>(p.delta.data[a])[i * p.hidden + c]);
      }
      x[c] = FromFloat<T>(ToFloat(x[c]) + ToFloat(FromFloat<T>(delta)));
    }
    if (p.out == nullptr) continue;
    float sum = 0.0f;
    for (int c = 0; c < p.hidden; ++c) sum += ToFloat(x[c]) * ToFloat(x[c]);
    const float scale = 1.0f / std::sqrt(sum / p.hidden + p.eps);
    const T* weight = static_cast<const T*>(p.weight);
    T* out = static_cast<T*>(p.out) + i * p.hidden;
    for (int c = 0; c < p.hidden; ++c)
      out[c] = FromFloat<T>(ToFloat(x[c]) * scale * ToFloat(weight[c]));
  }
}

}  // namespace

void RmsNormRef(const RmsNormParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
