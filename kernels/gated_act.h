#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Gated activation, here SwiGLU (arXiv 2002.05202): out[i,c] = silu(gate[i,c]) · up[i,c],
// silu(z) = z / (1 + e^−z). fp32 inside.
struct GatedActParams {
  const void* gate_up = nullptr;  // [rows][2][width]: gate, then up
  void* out = nullptr;            // [rows][width]
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t width = 0;
};

void GatedActRef(const GatedActParams& p);
void GatedActCpu(const GatedActParams& p);
void GatedActCuda(const GatedActParams& p, CudaStream stream);

}  // namespace winnow
