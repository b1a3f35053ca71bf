#pragma once

#include <cstdint>

#include "kernels/matmul.h"
#include "kernels/rope.h"
#include "kernels/types.h"

namespace winnow {

// Projections of attention with what follows them in one kernel, for sm_90a (wgmma, bulk tensor
// copies, clusters of two blocks): Matmul then Rope of its whole output, and Matmul then StoreKv of
// its whole output, which is not written itself. Rotated before they are rounded to bf16.
//
// Both need bf16, heads of 128, everything 16-byte aligned, in_features and x_stride multiples of
// 8; queries an even number of heads; no bias, no norm, nothing to accumulate to. Of shapes alone:
// that the device is a Hopper GPU is the caller's to know.
bool RotatedMatmulSm90Supports(const MatmulWeight& w, const MatmulParams& p, const RopeParams& q);
bool RotatedMatmulSm90Supports(const MatmulWeight& w, const MatmulParams& p,
                               const StoreKvParams& kv);
// Whether one kernel is faster: where its tiles fill the turns of the multiprocessors
// (docs/performance.md).
bool RotatedMatmulSm90Pays(const MatmulWeight& w, int64_t rows);
// Enqueued. REQUIRES: RotatedMatmulSm90Supports.
void RotatedMatmulSm90(const MatmulWeight& w, const MatmulParams& p, const RopeParams& q,
                       CudaStream stream);
void RotatedMatmulSm90(const MatmulWeight& w, const MatmulParams& p, const StoreKvParams& kv,
                       CudaStream stream);

}  // namespace winnow
