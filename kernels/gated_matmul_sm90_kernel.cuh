#pragma once

// The kernel behind kernels/gated_matmul_sm90.cu.
//
// A block is one producer warp, which copies tiles by the bulk tensor engine, and two warpgroups of
// consumers. A block's tile is 128 rows by 128 columns of out: x [128][64] times the weights of the
// gate [128][64] and of up [128][64], which lie one behind the other, so that one wgmma makes both:
// of a row's 256 sums, column c and 128 + c are in the same thread, and SwiGLU needs no exchange.
//
// Two blocks form a cluster: they have the same columns and neighbouring rows, and each copies half
// of the weights (the gate's, or up's) to both. That halves what the weights take of the L2 cache's
// rate, which 128 × 256 tiles would exceed. A last row tile that has no neighbour is shared
// instead: the blocks have neighbouring columns, and each copies half of x to both.
//
// Blocks stay and take tiles from a fixed list. The warpgroups share nothing but the stages, so one
// can multiply while the other one applies SwiGLU, as far ahead as there are stages.

#include <cuda.h>

#include <cstdint>

#include "kernels/sm90_ptx.cuh"
#include "kernels/sm90_ring.cuh"

namespace winnow::sm90 {

struct GatedMatmulArgs {
  int row_pairs;   // pairs of row tiles
  int columns;     // column tiles
  int last_tiles;  // pairs of column tiles of a last row tile that has no neighbour
  int steps;       // of kDepth along in_features
  int group;       // row pairs whose x stays in the L2 cache while the columns go by

  __host__ __device__ int tiles() const { return row_pairs * columns + last_tiles; }  // of clusters
};

constexpr int kTileRows = 128, kTileColumns = 128, kDepth = kChunk;
constexpr int kGatedStages = 4;
constexpr int kGatedWarpgroups = 2;
constexpr int kGatedThreads = 128 + kGatedWarpgroups * 128;
constexpr int kBlocksPerCluster = 2;
constexpr int kWarpgroupRows = kTileRows / kGatedWarpgroups;

// 1024-byte aligned. Rows of 128 bytes, swizzled.
struct GatedMatmulShared {
  uint16_t x[kGatedStages][kTileRows * kDepth];
  uint16_t w[kGatedStages][2][kTileColumns * kDepth];  // gate, up
  uint16_t out[kGatedWarpgroups][kTileColumns / kChunk][kWarpgroupRows * kChunk];
  uint64_t full[kGatedStages], empty[kGatedStages];
};

using GatedRing = StageRing<kGatedStages>;

// One entry of the list: groups of rows one after another; within a group all its rows of a column
// before the next column. A shared last row tile belongs to the last group: after both columns of a
// pair, so that the weights it reads once more are in the L2 cache.
struct GatedTile {
  int row, column;  // first of the block's, in elements
  bool shares_x;    // with the other block, not the weights

  __device__ GatedTile(const GatedMatmulArgs& a, int index) {
    const int first = min(index / (a.group * a.columns), a.row_pairs / a.group) * a.group;
    const int pairs = min(a.group, a.row_pairs - first);
    const bool has_last = a.last_tiles > 0 && pairs < a.group;
    const int tiles_of_two = kBlocksPerCluster * pairs + 1;  // columns
    int i = index - first * a.columns;
    const int first_column = has_last ? i / tiles_of_two * kBlocksPerCluster : 0;
    if (has_last) i %= tiles_of_two;
    shares_x = has_last && i == kBlocksPerCluster * pairs;
    if (shares_x) {
      row = a.row_pairs * kBlocksPerCluster * kTileRows;
      column = (first_column + BlockInCluster()) * kTileColumns;
      return;
    }
    row = ((first + i % pairs) * kBlocksPerCluster + BlockInCluster()) * kTileRows;
    column = (first_column + i / pairs) * kTileColumns;
  }
};

// half_x_map: boxes of half a tile's rows.
__device__ inline void ProduceGated(GatedMatmulShared& sh, const GatedMatmulArgs& a,
                                    const CUtensorMap* x_map, const CUtensorMap* half_x_map,
                                    const CUtensorMap* w_map) {
  constexpr uint16_t kBoth = (1 << kBlocksPerCluster) - 1;
  constexpr int kHalfRows = kTileRows / kBlocksPerCluster;
  const int half = BlockInCluster();  // of the weights: 0 the gate's, 1 up's; or of x
  constexpr int kBytes = (kTileRows + 2 * kTileColumns) * kDepth * 2;
  GatedRing ring;
  for (int index = blockIdx.x / kBlocksPerCluster; index < a.tiles();
       index += gridDim.x / kBlocksPerCluster) {
    const GatedTile tile(a, index);
    for (int step = 0; step < a.steps; ++step) {
      uint64_t* full = &sh.full[ring.stage];
      BarrierWait(&sh.empty[ring.stage], ring.parity ^ 1);
      BarrierExpect(full, kBytes);
      if (tile.shares_x) {
        LoadTileToCluster(sh.x[ring.stage] + half * kHalfRows * kDepth, half_x_map, full,
                          step * kDepth, tile.row + half * kHalfRows, 0, kBoth);
        LoadTile(sh.w[ring.stage][0], w_map, full, step * kDepth, tile.column, 0);
        LoadTile(sh.w[ring.stage][1], w_map, full, step * kDepth, tile.column, 1);
      } else {
        LoadTile(sh.x[ring.stage], x_map, full, step * kDepth, tile.row, 0);
        LoadTileToCluster(sh.w[ring.stage][half], w_map, full, step * kDepth, tile.column, half,
                          kBoth);
      }
      ring.Advance();
    }
  }
}

struct GatedConsumer {
  GatedMatmulShared& sh;
  const GatedMatmulArgs& a;
  const int warpgroup = threadIdx.x / 128 - 1;
  const int lane = threadIdx.x % 32;
  GatedRing ring = {};
  float d[2 * kTileColumns / 2];  // [64][gate 128, up 128], a 128th

  // Both blocks' producers must hear that a stage is free: each fills both.
  __device__ void Release(int stage) const {
    __syncwarp();
    if (lane < kBlocksPerCluster) BarrierArriveAt(&sh.empty[stage], lane);
  }

  __device__ void Multiply() {
    Pin(d);
    int before = -1;
    for (int step = 0; step < a.steps; ++step) {
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

  __device__ static float Gated(float gate, float up) {
    return __fdividef(gate, 1.0f + Exp2(gate * -1.44269504f)) * up;
  }

  __device__ void Store(const GatedTile& tile, const CUtensorMap* out_map) {
    constexpr int kBarrier = 1;
    if (threadIdx.x % 128 == 0) StoreWaitRead();  // the last tile's
    NamedSync(kBarrier + warpgroup, 128);
    const int row = threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
    for (int c = 0; c < kTileColumns; c += 16) {
      float y[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) y[i] = Gated(d[c / 2 + i], d[kTileColumns / 2 + c / 2 + i]);
      const int sixteen = (c % kChunk / 8 + lane / 16) ^ (row % 8);
      StoreMatrix(SharedAddress(sh.out[warpgroup][c / kChunk]) + row * kChunk * 2 + sixteen * 16,
                  PackBf16(y[0], y[1]), PackBf16(y[2], y[3]), PackBf16(y[4], y[5]),
                  PackBf16(y[6], y[7]));
    }
    AsyncProxyFence();
    NamedSync(kBarrier + warpgroup, 128);
    if (threadIdx.x % 128 == 0) {
#pragma unroll
      for (int c = 0; c < kTileColumns; c += kChunk) {
        StoreTile(out_map, sh.out[warpgroup][c / kChunk], tile.column + c,
                  tile.row + warpgroup * kWarpgroupRows, 0);
      }
      StoreCommit();
    }
  }
};

__global__ void __cluster_dims__(kBlocksPerCluster, 1, 1) __launch_bounds__(kGatedThreads, 1)
    GatedMatmulKernel(const __grid_constant__ CUtensorMap x_map,
                      const __grid_constant__ CUtensorMap half_x_map,
                      const __grid_constant__ CUtensorMap w_map,
                      const __grid_constant__ CUtensorMap out_map,
                      const __grid_constant__ GatedMatmulArgs args) {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& sh = *reinterpret_cast<GatedMatmulShared*>(shared_bytes);
  if (threadIdx.x == 0) {
    constexpr int kConsumerWarps = kGatedWarpgroups * 4;
    for (int i = 0; i < kGatedStages; ++i) {
      BarrierInit(&sh.full[i], 1);
      BarrierInit(&sh.empty[i], kBlocksPerCluster * kConsumerWarps);
    }
    BarrierInitFence();
  }
  ClusterSync();
  if (threadIdx.x < 128) {
    RegistersDown<24>();
    if (threadIdx.x == 0) ProduceGated(sh, args, &x_map, &half_x_map, &w_map);
  } else {
    RegistersUp<240>();
    GatedConsumer consumer{sh, args};
    for (int index = blockIdx.x / kBlocksPerCluster; index < args.tiles();
         index += gridDim.x / kBlocksPerCluster) {
      consumer.Multiply();
      consumer.Store(GatedTile(args, index), &out_map);
    }
    if (threadIdx.x % 128 == 0) StoreWaitRead();
  }
  ClusterSync();  // the other block still copies to this one and arrives at its barriers
}

}  // namespace winnow::sm90
