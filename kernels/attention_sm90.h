#pragma once

#include "kernels/attention.h"
#include "kernels/types.h"

namespace winnow {

// Attention for sm_90a (wgmma, bulk tensor copies): bf16, head_dim 64 or 128, q, k, v and out
// 16-byte aligned, q_stride a multiple of 8, everything addressable by int32 rows. Of p alone: that
// the device is a Hopper GPU is the caller's to know.
bool AttentionSm90Supports(const AttentionParams& p);

// As kernels/attention.h says, enqueued. REQUIRES: AttentionSm90Supports(p); pointers are of the
// current device. What k and v hold at and beyond visible(rows − 1) is never let into a sum. Errors
// are left to cudaGetLastError.
void AttentionSm90(const AttentionParams& p, CudaStream stream);

}  // namespace winnow
