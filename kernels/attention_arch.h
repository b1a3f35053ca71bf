#pragma once

#include "kernels/attention.h"

namespace winnow {

// Blocked attention per instruction set; each lives in a file compiled for it. REQUIRES: the processor has it.
void AttentionPortable(const AttentionParams& p);
void AttentionAvx512F32(const AttentionParams& p);   // AVX-512 F, BW, DQ, VL
void AttentionAvx512Bf16(const AttentionParams& p);  // and BF16

}  // namespace winnow
