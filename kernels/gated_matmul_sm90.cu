#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda_types.cuh"
#include "kernels/gated_matmul.h"
#include "kernels/gated_matmul_sm90_kernel.cuh"
#include "kernels/tensor_map.cuh"

namespace winnow {
namespace {

using namespace sm90;  // NOLINT: the kernel's constants

// Rows of x that should stay in the L2 cache while the weights go by.
constexpr int kGroupRows = 2048;
constexpr int kPairRows = kTileRows * kBlocksPerCluster;

GatedMatmulArgs ArgsOf(const MatmulWeight& w, int64_t rows) {
  GatedMatmulArgs args;
  const auto row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  args.columns = static_cast<int>(w.out_features / 2 / kTileColumns);
  const bool shares_last = row_tiles % 2 != 0 && args.columns % kBlocksPerCluster == 0;
  args.row_pairs = shares_last ? row_tiles / 2 : (row_tiles + 1) / 2;
  args.last_tiles = shares_last ? args.columns / kBlocksPerCluster : 0;
  args.steps = static_cast<int>((w.in_features + kDepth - 1) / kDepth);
  args.group = kGroupRows / kPairRows;
  return args;
}

int NumClusters() {
  int device = 0, multiprocessors = kBlocksPerCluster;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return multiprocessors / kBlocksPerCluster;
}

}  // namespace

bool GatedMatmulSm90Supports(const MatmulWeight& w, const GatedMatmulParams& p) {
  return w.dtype == DType::kBf16 && w.out_features % (2 * kTileColumns) == 0 &&
         w.in_features % 8 == 0 && w.in_features > 0 && p.x_stride % 8 == 0 && IsAligned16(p.x) &&
         IsAligned16(p.out) && IsAligned16(w.data) && p.rows < INT32_MAX / 2;
}

bool GatedMatmulSm90Pays(const MatmulWeight& w, int64_t rows) {
  constexpr double kFull = 0.95;
  if (rows >= kGatedMatmulSm90ManyRows) return true;
  const int tiles = ArgsOf(w, rows).tiles(), clusters = NumClusters();
  const int turns = (tiles + clusters - 1) / clusters;
  return tiles >= kFull * turns * clusters;
}

void GatedMatmulSm90(const MatmulWeight& w, const GatedMatmulParams& p, CudaStream stream) {
  if (p.rows == 0 || w.out_features == 0) return;
  const int64_t width = w.out_features / 2;
  const GatedMatmulArgs args = ArgsOf(w, p.rows);

  CUtensorMap x, half_x, weight, out;
  const int64_t x_size[3] = {w.in_features, p.rows, 1}, w_size[3] = {w.in_features, width, 2},
                out_size[3] = {width, p.rows, 1};
  const bool mapped =
      MakeTensorMap(&x, p.x, x_size, p.x_stride, p.x_stride * p.rows, kTileRows, 1) &&
      MakeTensorMap(&half_x, p.x, x_size, p.x_stride, p.x_stride * p.rows,
                    kTileRows / kBlocksPerCluster, 1) &&
      MakeTensorMap(&weight, w.data, w_size, w.in_features, w.in_features * width, kTileColumns,
                    1) &&
      MakeTensorMap(&out, p.out, out_size, width, width * p.rows, kWarpgroupRows, 1);
  if (!mapped) return RefuseLaunch(stream);
  const int clusters = std::min(NumClusters(), args.tiles());
  constexpr int kSharedBytes = sizeof(GatedMatmulShared);
  WithShared(GatedMatmulKernel,
             kSharedBytes)<<<clusters * kBlocksPerCluster, kGatedThreads, kSharedBytes, stream>>>(
      x, half_x, weight, out, args);
}

}  // namespace winnow
