#include "kernels/fast_exp.h"
#include "kernels/silu_mul.h"

namespace winnow {
namespace {

template <typename T>
void Run(const SiluMulParams& p) {
#pragma omp parallel for if (p.rows >= 64)
  for (int64_t i = 0; i < p.rows; ++i) {
    const T* __restrict gate = static_cast<const T*>(p.gate_up) + i * 2 * p.width;
    const T* __restrict up = gate + p.width;
    T* __restrict out = static_cast<T*>(p.out) + i * p.width;
    for (int64_t c = 0; c < p.width; ++c) {
      const float z = ToFloat(gate[c]);
      out[c] = FromFloat<T>(z / (1.0f + FastExp(-z)) * ToFloat(up[c]));
    }
  }
}

}  // namespace

void SiluMulCpu(const SiluMulParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
