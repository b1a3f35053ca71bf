#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// SwiGLU (arXiv 2002.05202): out[i,c] = silu(gate[i,c]) · up[i,c], silu(z) = z / (1 + e^−z). fp32
// inside.
struct SiluMulParams {
  const void* gate_up = nullptr;  // [rows][2][width]: gate, then up
  void* out = nullptr;            // [rows][width]
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t width = 0;
};

void SiluMulRef(const SiluMulParams& p);
void SiluMulCpu(const SiluMulParams& p);
void SiluMulCuda(const SiluMulParams& p, CudaStream stream);

}  // namespace winnow
