#pragma once

#include <cstdint>

#include "kernels/matmul.h"
#include "kernels/types.h"

namespace winnow {

// The first half of a gated MLP, here SwiGLU (arXiv 2002.05202):
// out[i,c] = silu(Σ_k x[i,k]·w[c,k]) · Σ_k x[i,k]·w[width+c,k], silu(z) = z / (1 + e^−z), fp32
// sums. The weight's rows are gate, then up, `width` of each. Cost: 4·rows·width·in_features FLOP.
struct GatedMatmulParams {
  const void* x = nullptr;  // [rows][in_features] of the weight's type, rows x_stride apart
  void* out = nullptr;      // [rows][width] of the weight's type, dense
  int64_t rows = 0;
  int64_t x_stride = 0;  // ≥ in_features
};

void GatedMatmulRef(const MatmulWeight& w, const GatedMatmulParams& p);

// For sm_90a (wgmma, bulk tensor copies, clusters of two blocks): bf16, everything 16-byte aligned,
// in_features and x_stride multiples of 8, width of 128. Of shapes alone: that the device is a
// Hopper GPU is the caller's to know.
bool GatedMatmulSm90Supports(const MatmulWeight& w, const GatedMatmulParams& p);
// Whether it is faster than a product and the gated activation after it: always from so many rows
// on, with fewer where its tiles fill the turns of the multiprocessors (docs/performance.md).
inline constexpr int64_t kGatedMatmulSm90ManyRows = 1792;
bool GatedMatmulSm90Pays(const MatmulWeight& w, int64_t rows);
// Enqueued. REQUIRES: GatedMatmulSm90Supports(w, p).
void GatedMatmulSm90(const MatmulWeight& w, const GatedMatmulParams& p, CudaStream stream);

}  // namespace winnow
