#pragma once

// A product whose output columns are needed in pairs, for Hopper, and what is done with the pairs:
// the kernel behind kernels/gated_matmul_sm90.cu and kernels/rotated_matmul_sm90.cu.
//
// The weight is two halves of `width` rows each, a gate's and an up's, say, or the keys' and the
// values'. A block is one producer warp, which copies tiles by the bulk tensor engine, and two
// warpgroups of consumers. A block's tile is 128 rows by 128 columns of each half: x [128][64]
// times the weights of the one half [128][64] and of the other [128][64], which lie one behind the
// other, so that one wgmma makes both: of a row's 256 sums, column c and 128 + c are in the same
// thread, and so are c and c ± 64. What becomes of them needs no exchange.
//
// Two blocks form a cluster: they have the same columns and neighbouring rows, and each copies one
// half's weights to both. That halves what the weights take of the L2 cache's rate, which 128 × 256
// tiles would exceed. A last row tile that has no neighbour is shared instead: the blocks have
// neighbouring columns, and each copies half of x to both.
//
// Blocks stay and take tiles from a fixed list. The warpgroups share nothing but the stages, so one
// can multiply while the other one finishes its sums, as far ahead as there are stages.

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cuda_types.cuh"
#include "kernels/matmul.h"
#include "kernels/sm90_ptx.cuh"
#include "kernels/sm90_ring.cuh"
#include "kernels/tensor_map.cuh"

namespace winnow::sm90 {

constexpr int kTileRows = 128, kTileColumns = 128, kDepth = kChunk;
constexpr int kPairedStages = 4;
constexpr int kPairedWarpgroups = 2;
constexpr int kPairedThreads = 128 + kPairedWarpgroups * 128;
constexpr int kBlocksPerCluster = 2;
constexpr int kWarpgroupRows = kTileRows / kPairedWarpgroups;
using PairedSums = float[2 * kTileColumns / 2];  // a thread's, of its warpgroup's [64][256]

// What clusters compute, one after another: groups of rows; within a group all its rows of a column
// before the next column. A shared last row tile belongs to the last group: after both columns of a
// pair, so that the weights it reads once more are in the L2 cache.
struct PairedTiles {
  int row_pairs;  // pairs of row tiles
  int columns;    // column tiles of a half
  bool has_last;  // a row tile without a neighbour, shared by columns in pairs
  int group;      // row pairs whose x stays in the L2 cache while the columns go by

  __host__ __device__ int count() const {
    return row_pairs * columns + (has_last ? columns / kBlocksPerCluster : 0);
  }
};

// One block's part of an entry of the list.
struct PairedTile {
  int row, column;  // the first ones, in elements
  bool shares_x;    // with the other block, not the weights

  __device__ PairedTile(const PairedTiles& list, int index) {
    const int first = min(index / (list.group * list.columns), list.row_pairs / list.group) *
                      list.group;  // row pair of the group
    const int pairs = min(list.group, list.row_pairs - first);
    const int has_last = list.has_last && pairs < list.group;
    const int columns = list.has_last ? kBlocksPerCluster : 1;  // that go by together
    const int entries = columns * pairs + has_last;
    const int i = index - first * list.columns, entry = i % entries;
    shares_x = has_last && entry == entries - 1;
    const int row_tile = shares_x ? list.row_pairs * kBlocksPerCluster
                                  : (first + entry % pairs) * kBlocksPerCluster + BlockInCluster();
    const int column_tile = i / entries * columns + (shares_x ? BlockInCluster() : entry / pairs);
    row = row_tile * kTileRows;
    column = column_tile * kTileColumns;
  }
};

// 1024-byte aligned. Rows of 128 bytes, swizzled.
struct PairedShared {
  uint16_t x[kPairedStages][kTileRows * kDepth];
  uint16_t w[kPairedStages][2][kTileColumns * kDepth];
  uint16_t out[kPairedWarpgroups][kTileColumns / kChunk][kWarpgroupRows * kChunk];
  uint64_t full[kPairedStages], empty[kPairedStages];
};

// What the products read.
struct PairedInput {
  CUtensorMap x, half_x;  // [rows][in_features], in boxes of a tile's rows and of half of them
  CUtensorMap w;          // [2][width][in_features]
  int steps;              // of kDepth along in_features
};

using PairedRing = StageRing<kPairedStages>;

__device__ inline void ProducePaired(PairedShared& sh, const PairedInput& in,
                                     const PairedTiles& list) {
  constexpr uint16_t kBoth = (1 << kBlocksPerCluster) - 1;
  constexpr int kHalfRows = kTileRows / kBlocksPerCluster;
  constexpr int kBytes = (kTileRows + 2 * kTileColumns) * kDepth * 2;
  const int half = BlockInCluster();  // of the weights or of x: this block's to copy
  PairedRing ring;
  for (int index = blockIdx.x / kBlocksPerCluster; index < list.count();
       index += gridDim.x / kBlocksPerCluster) {
    const PairedTile tile(list, index);
    for (int step = 0; step < in.steps; ++step) {
      uint64_t* full = &sh.full[ring.stage];
      BarrierWait(&sh.empty[ring.stage], ring.parity ^ 1);
      BarrierExpect(full, kBytes);
      if (tile.shares_x) {
        LoadTileToCluster(sh.x[ring.stage] + half * kHalfRows * kDepth, &in.half_x, full,
                          step * kDepth, tile.row + half * kHalfRows, 0, kBoth);
        LoadTile(sh.w[ring.stage][0], &in.w, full, step * kDepth, tile.column, 0);
        LoadTile(sh.w[ring.stage][1], &in.w, full, step * kDepth, tile.column, 1);
      } else {
        LoadTile(sh.x[ring.stage], &in.x, full, step * kDepth, tile.row, 0);
        LoadTileToCluster(sh.w[ring.stage][half], &in.w, full, step * kDepth, tile.column, half,
                          kBoth);
      }
      ring.Advance();
    }
  }
}

// A warpgroup's [64][128] of bf16 on its way out: Begin, Put every 16 columns, Send.
struct PairedOut {
  uint16_t (&chunks)[kTileColumns / kChunk][kWarpgroupRows * kChunk];
  const int warpgroup;

  __device__ bool is_first_thread() const { return threadIdx.x % 128 == 0; }
  __device__ void Sync() const { NamedSync(1 + warpgroup, 128); }
  // What was sent last has been read.
  __device__ void Begin() const {
    if (is_first_thread()) StoreWaitRead();
    Sync();
  }
  // y: this thread's of columns c to c + 15, as it has their sums.
  __device__ void Put(int c, const float* y) const {
    const int lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane % 16;
    const int sixteen = (c % kChunk / 8 + lane / 16) ^ (row % 8);
    StoreMatrix(SharedAddress(chunks[c / kChunk]) + row * kChunk * 2 + sixteen * 16,
                PackBf16(y[0], y[1]), PackBf16(y[2], y[3]), PackBf16(y[4], y[5]),
                PackBf16(y[6], y[7]));
  }
  __device__ void Send(const CUtensorMap* map, int column, int row, int head) const {
    AsyncProxyFence();
    Sync();
    if (!is_first_thread()) return;
#pragma unroll
    for (int c = 0; c < kTileColumns; c += kChunk) {
      StoreTile(map, chunks[c / kChunk], column + c, row, head);
    }
    StoreCommit();
  }
};

struct PairedConsumer {
  PairedShared& sh;
  const int steps;
  const int warpgroup = threadIdx.x / 128 - 1;
  PairedRing ring = {};
  PairedSums d;

  // Both blocks' producers must hear that a stage is free: each fills both.
  __device__ void Release(int stage) const {
    __syncwarp();
    if (threadIdx.x % 32 < kBlocksPerCluster) {
      BarrierArriveAt(&sh.empty[stage], threadIdx.x % 32);
    }
  }

  __device__ void Multiply() {
    Pin(d);
    int before = -1;
    for (int step = 0; step < steps; ++step) {
      BarrierWait(&sh.full[ring.stage], ring.parity);
      WgmmaFence();
      const uint64_t x = TileDescriptor(sh.x[ring.stage] + warpgroup * kWarpgroupRows * kDepth, 16);
      const uint64_t w = TileDescriptor(sh.w[ring.stage], 16);
#pragma unroll
      for (int c = 0; c < kDepth; c += 16) {
        WgmmaKMajor(d, x + (c * 2 >> 4), w + (c * 2 >> 4), step > 0 || c > 0);
      }
      WgmmaCommit();
      WgmmaWait<1>();
      if (before >= 0) Release(before);
      before = ring.stage;
      ring.Advance();
    }
    WgmmaWait<0>();
    Pin(d);
    Release(before);
  }
};

// Finish: void Finish(PairedSums& d, int row, int column, const PairedOut& out) const, of a
// warpgroup whose sums begin at this row and at this column of both halves.
template <typename Finisher>
__global__ void __cluster_dims__(kBlocksPerCluster, 1, 1) __launch_bounds__(kPairedThreads, 1)
    PairedMatmulKernel(const __grid_constant__ PairedInput in,
                       const __grid_constant__ PairedTiles list,
                       const __grid_constant__ Finisher finisher) {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& sh = *reinterpret_cast<PairedShared*>(shared_bytes);
  if (threadIdx.x == 0) {
    constexpr int kConsumerWarps = kPairedWarpgroups * 4;
    for (int i = 0; i < kPairedStages; ++i) {
      BarrierInit(&sh.full[i], 1);
      BarrierInit(&sh.empty[i], kBlocksPerCluster * kConsumerWarps);
    }
    BarrierInitFence();
  }
  ClusterSync();
  if (threadIdx.x < 128) {
    RegistersDown<24>();
    if (threadIdx.x == 0) ProducePaired(sh, in, list);
  } else {
    RegistersUp<240>();
    PairedConsumer consumer{sh, in.steps};
    const PairedOut out{sh.out[consumer.warpgroup], consumer.warpgroup};
    for (int index = blockIdx.x / kBlocksPerCluster; index < list.count();
         index += gridDim.x / kBlocksPerCluster) {
      consumer.Multiply();
      const PairedTile tile(list, index);
      finisher.Finish(consumer.d, tile.row + consumer.warpgroup * kWarpgroupRows, tile.column, out);
    }
    if (out.is_first_thread()) StoreWaitRead();
  }
  ClusterSync();  // the other block still copies to this one and arrives at its barriers
}

// ---- host side ----

// bf16, everything 16-byte aligned, halves of whole tiles of columns. Of shapes alone: that the
// device is a Hopper GPU is the caller's to know.
inline bool PairedMatmulSupports(const MatmulWeight& w, const void* x, int64_t x_stride,
                                 int64_t rows) {
  return w.dtype == DType::kBf16 && w.out_features % (2 * kTileColumns) == 0 &&
         w.in_features % 8 == 0 && w.in_features > 0 && x_stride % 8 == 0 && IsAligned16(x) &&
         IsAligned16(w.data) && rows < INT32_MAX / 2;
}

inline PairedTiles PairedTilesOf(const MatmulWeight& w, int64_t rows) {
  // Rows of x that should stay in the L2 cache while the weights go by.
  constexpr int kGroupRows = 2048;
  const auto row_tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  const auto columns = static_cast<int>(w.out_features / 2 / kTileColumns);
  const bool has_last = row_tiles % 2 != 0 && columns % kBlocksPerCluster == 0;
  return {.row_pairs = has_last ? row_tiles / 2 : (row_tiles + 1) / 2,
          .columns = columns,
          .has_last = has_last,
          .group = kGroupRows / (kTileRows * kBlocksPerCluster)};
}

inline int NumClusters() {
  int device = 0, multiprocessors = kBlocksPerCluster;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  return multiprocessors / kBlocksPerCluster;
}

// The share of the multiprocessors' turns that tiles fill.
inline double PairedMatmulFill(const MatmulWeight& w, int64_t rows) {
  const int tiles = PairedTilesOf(w, rows).count(), clusters = NumClusters();
  const int turns = (tiles + clusters - 1) / clusters;
  return static_cast<double>(tiles) / (turns * clusters);
}

// Enqueued. REQUIRES: PairedMatmulSupports(w, x, x_stride, rows), rows > 0, and a mapped finisher.
template <typename Finisher>
void LaunchPairedMatmul(const MatmulWeight& w, const void* x, int64_t x_stride, int64_t rows,
                        const Finisher& finisher, CudaStream stream) {
  PairedInput in;
  in.steps = static_cast<int>((w.in_features + kDepth - 1) / kDepth);
  const int64_t width = w.out_features / 2;
  const int64_t x_size[3] = {w.in_features, rows, 1}, w_size[3] = {w.in_features, width, 2};
  const bool mapped =
      MakeTensorMap(&in.x, x, x_size, x_stride, x_stride * rows, kTileRows, 1) &&
      MakeTensorMap(&in.half_x, x, x_size, x_stride, x_stride * rows, kTileRows / kBlocksPerCluster,
                    1) &&
      MakeTensorMap(&in.w, w.data, w_size, w.in_features, w.in_features * width, kTileColumns, 1);
  if (!mapped) return RefuseLaunch(stream);
  const PairedTiles list = PairedTilesOf(w, rows);
  const int clusters = std::min(NumClusters(), list.count());
  constexpr int kSharedBytes = sizeof(PairedShared);
  WithShared(PairedMatmulKernel<Finisher>,
             kSharedBytes)<<<clusters * kBlocksPerCluster, kPairedThreads, kSharedBytes, stream>>>(
      in, list, finisher);
}

}  // namespace winnow::sm90
