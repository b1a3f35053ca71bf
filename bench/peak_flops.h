#pragma once

#include "kernels/types.h"

namespace winnow {

// FLOP/s that `threads` threads of this machine reach now with nothing but arithmetic on registers:
// fused multiply-adds for kF32, bf16 dot products into fp32 for kBf16; the best of some rounds,
// about 0.1 s. What a benchmark divides by. AVX-512, or AVX2 for kF32; 0 when the processor has
// neither, or no bf16 instructions. AMX is not measured: with it a share may exceed 1.
double PeakFlops(DType dtype, int threads);

// Bytes per second that `threads` threads copy between arrays far larger than the caches, reads and
// writes counted.
double PeakCopyBytes(int threads);

}  // namespace winnow
