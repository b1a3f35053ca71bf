#include <cuda.h>

#include <cstdint>

#include "kernels/gated_matmul.h"
#include "kernels/paired_matmul_sm90_kernel.cuh"

namespace winnow {
namespace {

using namespace sm90;  // NOLINT: the kernel's parts

// The halves are gate and up.
struct Gate {
  CUtensorMap out;  // [rows][width]

  __device__ static float Gated(float gate, float up) {
    return __fdividef(gate, 1.0f + Exp2(gate * -1.44269504f)) * up;
  }
  __device__ void Finish(PairedSums& d, int row, int column, const PairedOut& to) const {
    to.Begin();
#pragma unroll
    for (int c = 0; c < kTileColumns; c += 16) {
      float y[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) y[i] = Gated(d[c / 2 + i], d[kTileColumns / 2 + c / 2 + i]);
      to.Put(c, y);
    }
    to.Send(&out, column, row, 0);
  }
};

}  // namespace

bool GatedMatmulSm90Supports(const MatmulWeight& w, const GatedMatmulParams& p) {
  return PairedMatmulSupports(w, p.x, p.x_stride, p.rows) && IsAligned16(p.out);
}

bool GatedMatmulSm90Pays(const MatmulWeight& w, int64_t rows) {
  return rows >= kGatedMatmulSm90ManyRows || PairedMatmulFill(w, rows) >= 0.95;
}

void GatedMatmulSm90(const MatmulWeight& w, const GatedMatmulParams& p, CudaStream stream) {
  if (p.rows == 0 || w.out_features == 0) return;
  const int64_t width = w.out_features / 2, size[3] = {width, p.rows, 1};
  Gate gate;
  if (!MakeTensorMap(&gate.out, p.out, size, width, width * p.rows, kWarpgroupRows, 1)) {
    return RefuseLaunch(stream);
  }
  LaunchPairedMatmul(w, p.x, p.x_stride, p.rows, gate, stream);
}

}  // namespace winnow
