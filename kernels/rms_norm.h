#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Residual add and RMSNorm in one pass (arXiv 1910.07467): x += delta (when it has addends), then
// out[i,c] = x[i,c] · rsqrt(mean_c x[i,c]² + eps) · weight[c]. fp32 inside; the norm reads x as it
// was stored. Cost: one read and one write of x, one read of delta's addends, one write of out.
struct RmsNormParams {
  void* x = nullptr;             // [rows][hidden]; written only with delta
  Addends delta;                 // each [rows][hidden]
  const void* weight = nullptr;  // [hidden]
  void* out = nullptr;           // [rows][hidden]; null: only the add
  DType dtype = DType::kF32;     // of all four
  int64_t rows = 0;
  int hidden = 0;
  float eps = 0;
};

void RmsNormRef(const RmsNormParams& p);
void RmsNormCpu(const RmsNormParams& p);
void RmsNormCuda(const RmsNormParams& p, CudaStream stream);

}  // namespace winnow
