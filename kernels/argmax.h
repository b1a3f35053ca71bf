#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// out[i]: the column of the highest element of row i, the first of equals; −1 when an element is
// NaN or the highest is not finite.
struct ArgMaxParams {
  const float* in = nullptr;  // [rows][width]
  int32_t* out = nullptr;     // [rows]
  int64_t rows = 0;
  int64_t width = 0;  // ≥ 1
};

void ArgMaxRef(const ArgMaxParams& p);
void ArgMaxCpu(const ArgMaxParams& p);
void ArgMaxCuda(const ArgMaxParams& p, CudaStream stream);

}  // namespace winnow
