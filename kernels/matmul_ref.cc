#include "kernels/matmul.h"

namespace winnow {
namespace {

template <typename T, typename Out>
void Run(const MatmulWeight& w, const MatmulParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const T* x = static_cast<const T*>(p.x) + i * p.x_stride;
    for (int64_t o = 0; o < w.out_features; ++o) {
      const T* weight = static_cast<const T*>(w.data) + o * w.in_features;
      float sum = p.bias != nullptr ? ToFloat(static_cast<const T*>(p.bias)[o]) : 0.0f;
      if (p.accumulate) sum += ToFloat(static_cast<const Out*>(p.out)[i * w.out_features + o]);
      for (int64_t c = 0; c < w.in_features; ++c) sum += ToFloat(x[c]) * ToFloat(weight[c]);
      static_cast<Out*>(p.out)[i * w.out_features + o] = FromFloat<Out>(sum);
    }
  }
}

}  // namespace

void MatmulRef(const MatmulWeight& w, const MatmulParams& p) {
  if (w.dtype == DType::kF32) {
    p.out_dtype == DType::kF32 ? Run<float, float>(w, p) : Run<float, Bf16>(w, p);
  } else {
    p.out_dtype == DType::kF32 ? Run<Bf16, float>(w, p) : Run<Bf16, Bf16>(w, p);
  }
}

}  // namespace winnow
