#include <cmath>

#include "kernels/gated_act.h"

namespace winnow {
namespace {

template <typename T>
void Run(const GatedActParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const T* gate = static_cast<const T*>(p.gate_up) + i * 2 * p.width;
    const T* up = gate + p.width;
    T* out = static_cast<T*>(p.out) + i * p.width;
    for (int64_t c = 0; c < p.width; ++c) {
      const float z = ToFloat(gate[c]);
      out[c] = FromFloat<T>(z / (1.0f + std::exp(-z)) * ToFloat(up[c]));
    }
  }
}

}  // namespace

void GatedActRef(const GatedActParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
