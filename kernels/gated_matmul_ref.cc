#include <cmath>

#include "kernels/gated_matmul.h"

namespace winnow {
namespace {

template <typename T>
void Run(const MatmulWeight& w, const GatedMatmulParams& p) {
  const int64_t width = w.out_features / 2;
  for (int64_t i = 0; i < p.rows; ++i) {
    const T* x = static_cast<const T*>(p.x) + i * p.x_stride;
    for (int64_t c = 0; c < width; ++c) {
      const T* gate_weight = static_cast<const T*>(w.data) + c * w.in_features;
      const T* up_weight = gate_weight + width * w.in_features;
      float gate = 0.0f, up = 0.0f;
      for (int64_t k = 0; k < w.in_features; ++k) {
        gate += ToFloat(x[k]) * ToFloat(gate_weight[k]);
        up += ToFloat(x[k]) * ToFloat(up_weight[k]);
      }
      static_cast<T*>(p.out)[i * width + c] = FromFloat<T>(gate / (1.0f + std::exp(-gate)) * up);
    }
  }
}

}  // namespace

void GatedMatmulRef(const MatmulWeight& w, const GatedMatmulParams& p) {
  w.dtype == DType::kF32 ? Run<float>(w, p) : Run<Bf16>(w, p);
}

}  // namespace winnow
