#include "kernels/cpu_clones.h"
#include "kernels/fast_exp.h"
#include "kernels/gated_act.h"

namespace winnow {
namespace {

template <typename T>
WINNOW_CPU_CLONES void GatedActRow(const T* __restrict gate, const T* __restrict up,
                                   T* __restrict out, int64_t width) {
  for (int64_t c = 0; c < width; ++c) {
    const float z = ToFloat(gate[c]);
    out[c] = FromFloat<T>(z / (1.0f + FastExp(-z)) * ToFloat(up[c]));
  }
}

template <typename T>
void Run(const GatedActParams& p) {
#pragma omp parallel for if (p.rows >= 64)
  for (int64_t i = 0; i < p.rows; ++i) {
    const T* gate = static_cast<const T*>(p.gate_up) + i * 2 * p.width;
    GatedActRow(gate, gate + p.width, static_cast<T*>(p.out) + i * p.width, p.width);
  }
}

}  // namespace

void GatedActCpu(const GatedActParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
