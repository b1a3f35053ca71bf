#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// to[i] = value for i < count.
void FillCuda(float* to, float value, int64_t count, CudaStream stream);

}  // namespace winnow
