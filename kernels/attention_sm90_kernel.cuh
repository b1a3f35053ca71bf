#pragma once

// The kernel behind kernels/attention_sm90.cu.
//
// A block is one producer warp, which copies tiles by the bulk tensor engine, and two or three
// warpgroups of consumers, each with 64 rows of scores S [64][128], weights P [64][128], output O
// [64][kD] and, where they fit, queries Q [64][kD] in registers. Blocks stay: one per
// multiprocessor, each takes tiles from a fixed list until it ends.
//
// Rows: 2^pack_shift query heads of one kv head share a tile, so row r of a tile is token r >>
// pack_shift, head r & (pack − 1). Few tokens fill a tile that way, and a tile spans few positions,
// so little of it is masked.
//
// Overlap (arXiv 2407.08608 §3): a warpgroup issues S_j = Q·K_jᵀ and O += P_{j−1}·V_{j−1} together
// and then does the softmax of S_j beside the other warpgroups' products; they take turns to start
// theirs.
//
// Softmax: keys are taken in ascending order and every row sees key 0, so the running maximum m is
// finite from the first tile on. With s the raw product, p = exp2((s − m)·log2(e)/√d): one
// multiply-add and one ex2. m follows the true maximum only when that is more than kSlack (in
// powers of two) above it, which spares most rescalings of O; p ≤ 2^kSlack is as exact in bf16 as p
// ≤ 1, and the quotient O/l does not depend on m.

#include <cuda.h>

#include <cmath>
#include <cstdint>

#include "kernels/sm90_ptx.cuh"
#include "kernels/sm90_ring.cuh"

namespace winnow::sm90 {

struct AttentionArgs {
  const int32_t* positions;  // [rows] or null
  float* lse;                // [q_heads][rows − lse_begin] or null
  int rows, first_visible, lse_begin;
  int pack_shift;
  int head_tiles;     // q_heads >> pack_shift
  int group_tiles;    // q heads per kv head >> pack_shift
  int section_heads;  // head tiles whose keys and values stay in the L2 cache together
  int row_tiles;

  __device__ int Visible(int row) const {
    return first_visible + (positions != nullptr ? positions[row] : row);
  }
};

constexpr int kKeys = 128;  // per tile of K and V
constexpr int kStages = 2;  // tiles of K, and of V, in flight
constexpr int kRowsPerWarpgroup = 64;
constexpr float kSlack = 8.0f;

// Consumers: as many warpgroups as the registers hold O and S of. Heads of 64 have half the
// products per exponential, so they need more softmax in parallel more than they need Q in
// registers.
template <int kD>
constexpr int kWarpgroups = kD == 128 ? 2 : 3;
template <int kD>
constexpr bool kQueriesInRegisters = kD == 128;
template <int kD>
constexpr int kRows = kWarpgroups<kD>* kRowsPerWarpgroup;
template <int kD>
constexpr int kThreads = 128 + kWarpgroups<kD> * 128;
// Per thread after the split, of 65536 in all: the producer gives its to the consumers.
template <int kD>
constexpr int kProducerRegisters = kD == 128 ? 24 : 32;
template <int kD>
constexpr int kConsumerRegisters = kD == 128 ? 240 : 160;
// Named barriers, one per warpgroup each; 0 is __syncthreads.
constexpr int kTurnBarrier = 1, kOwnBarrier = 4;

// 1024-byte aligned. Tiles of [rows][kD] lie as [kD/64][rows][64].
template <int kD>
struct AttentionShared {
  uint16_t q[kWarpgroups<kD>][kRowsPerWarpgroup * kD];
  uint16_t k[kStages][kKeys * kD];
  uint16_t v[kStages][kKeys * kD];
  uint16_t out[kWarpgroups<kD>][kRowsPerWarpgroup * kD];
  uint64_t q_full, q_empty;
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
};

using Ring = StageRing<kStages>;

// One entry of the list: sections of heads one after another, within a section longest rows first.
// Blocks go along the list forth and back, so that two tiles in turn cost every block the same.
template <int kD>
struct Tile {
  int token, tokens_end;  // of its rows
  int head_tile;

  __device__ static int Index(int turn) {
    const int block = turn % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
    return turn * gridDim.x + block;
  }
  __device__ Tile(const AttentionArgs& a, int index) {
    const int section = index / (a.section_heads * a.row_tiles);
    const int first_head = section * a.section_heads;
    const int heads = min(a.section_heads, a.head_tiles - first_head);
    const int i = index - first_head * a.row_tiles;
    head_tile = first_head + i % heads;
    const int tokens = kRows<kD> >> a.pack_shift;
    token = (a.row_tiles - 1 - i / heads) * tokens;
    tokens_end = min(token + tokens, a.rows);
  }
  __device__ int KeyTiles(const AttentionArgs& a) const {
    return (a.Visible(tokens_end - 1) + kKeys - 1) / kKeys;
  }
};

template <int kD>
__device__ void Produce(AttentionShared<kD>& sh, const AttentionArgs& a, const CUtensorMap* q_map,
                        const CUtensorMap* k_map, const CUtensorMap* v_map) {
  const int tiles = a.head_tiles * a.row_tiles;
  Ring k_ring, v_ring;
  uint32_t q_parity = 0;
  const auto load_keys = [&](uint16_t* smem, const CUtensorMap* map, uint64_t* full,
                             uint64_t* empty, uint32_t parity, int key, int head) {
    BarrierWait(empty, parity ^ 1);
    BarrierExpect(full, kKeys * kD * 2);
#pragma unroll
    for (int c = 0; c < kD; c += kChunk) LoadTile(smem + c * kKeys, map, full, c, key, head);
  };
  for (int turn = 0; Tile<kD>::Index(turn) < tiles; ++turn) {
    const Tile<kD> tile(a, Tile<kD>::Index(turn));
    const int kv_head = tile.head_tile / a.group_tiles;
    const int key_tiles = tile.KeyTiles(a);
    for (int j = 0; j < key_tiles; ++j) {
      load_keys(sh.k[k_ring.stage], k_map, &sh.k_full[k_ring.stage], &sh.k_empty[k_ring.stage],
                k_ring.parity, j * kKeys, kv_head);
      k_ring.Advance();
      if (j == 0) {
        BarrierWait(&sh.q_empty, q_parity ^ 1);
        q_parity ^= 1;
        BarrierExpect(&sh.q_full, kRows<kD> * kD * 2);
        for (int w = 0; w < kWarpgroups<kD>; ++w) {
#pragma unroll
          for (int c = 0; c < kD; c += kChunk) {
            LoadTile(sh.q[w] + c * kRowsPerWarpgroup, q_map, &sh.q_full, c,
                     tile.head_tile << a.pack_shift,
                     tile.token + (w * kRowsPerWarpgroup >> a.pack_shift));
          }
        }
      }
      load_keys(sh.v[v_ring.stage], v_map, &sh.v_full[v_ring.stage], &sh.v_empty[v_ring.stage],
                v_ring.parity, j * kKeys, kv_head);
      v_ring.Advance();
    }
  }
}

// Two rows of a thread: running maximum of the raw products, and this thread's part of the sum of
// p.
struct RowState {
  float max[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0.0f, 0.0f};
};

template <int kD>
struct Consumer {
  AttentionShared<kD>& sh;
  const AttentionArgs& a;
  const float scale_log2;  // log2(e)/√d
  const int warpgroup = threadIdx.x / 128 - 1;
  const int lane = threadIdx.x % 32;
  // First of the thread's two rows in the tile; the other is 8 below.
  const int row = warpgroup * kRowsPerWarpgroup + threadIdx.x % 128 / 32 * 16 + lane / 4;
  Ring k_ring = {}, v_ring = {};
  uint32_t q_parity = 0;
  // The warpgroup's matrices, a 128th of each.
  uint32_t q[kQueriesInRegisters<kD> ? kD / 4 : 1];  // [64][kD] bf16
  float s[kKeys / 2];                                // [64][128]
  uint32_t p[kKeys / 4];                             // [64][128] bf16
  float o[kD / 2];                                   // [64][kD]

  __device__ void Release(uint64_t* bar) const {
    __syncwarp();
    if (lane == 0) BarrierArrive(bar);
  }

  // The row of a [64][kD] tile whose address this lane gives to LoadMatrix and StoreMatrix, and of
  // that row the 16 bytes at columns c.. (lanes 0–15) and c + 8.. (lanes 16–31), bytes from the
  // tile's start.
  __device__ uint32_t MatrixOffset(int c) const {
    const int tile_row = threadIdx.x % 128 / 32 * 16 + lane % 16;
    const int sixteen = (c % kChunk / 8 + lane / 16) ^ (tile_row % 8);
    return (c / kChunk * kRowsPerWarpgroup + tile_row) * kChunk * 2 + sixteen * 16;
  }

  __device__ void TakeQueries() {
    BarrierWait(&sh.q_full, q_parity);
    q_parity ^= 1;
    if constexpr (kQueriesInRegisters<kD>) {
#pragma unroll
      for (int c = 0; c < kD; c += 16) {
        LoadMatrix(SharedAddress(sh.q[warpgroup]) + MatrixOffset(c), q + c / 4);
      }
      Release(&sh.q_empty);
    }
  }

  // S = Q·Kᵀ
  __device__ void MultiplyKeys() {
    const uint64_t k_tile = TileDescriptor(sh.k[k_ring.stage], 16);
    [[maybe_unused]] const uint64_t q_tile = TileDescriptor(sh.q[warpgroup], 16);
#pragma unroll
    for (int c = 0; c < kD; c += 16) {
      const int within = c % kChunk * 2, chunk = c / kChunk * kChunk * 2;
      const uint64_t k_part = k_tile + ((chunk * kKeys + within) >> 4);
      if constexpr (kQueriesInRegisters<kD>) {
        WgmmaKMajor(s, q[c / 4], q[c / 4 + 1], q[c / 4 + 2], q[c / 4 + 3], k_part, c > 0);
      } else {
        WgmmaKMajor(s, q_tile + ((chunk * kRowsPerWarpgroup + within) >> 4), k_part, c > 0);
      }
    }
    WgmmaCommit();
  }

  // O += P·V
  __device__ void MultiplyValues(bool accumulate) {
    const uint64_t v_tile = TileDescriptor(sh.v[v_ring.stage], kKeys * kChunk * 2);
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
      WgmmaNMajor(o, p[4 * j], p[4 * j + 1], p[4 * j + 2], p[4 * j + 3],
                  v_tile + (j * 16 * kChunk * 2 >> 4), accumulate || j > 0);
    }
    WgmmaCommit();
  }

  __device__ void Mask(int first_key, const int (&visible)[2]) {
    const int key = first_key + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      if (key + i / 4 * 8 + i % 2 >= visible[i / 2 % 2]) s[i] = -INFINITY;
    }
  }

  // S becomes exp2 of itself; true, and the factors, if O must be rescaled.
  __device__ bool Softmax(RowState& state, float (&factor)[2]) {
    float top[2] = {s[0], s[2]};
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) top[i / 2 % 2] = fmaxf(top[i / 2 % 2], s[i]);
    bool exceeds = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0u, top[r], 1));
      top[r] = fmaxf(top[r], __shfl_xor_sync(~0u, top[r], 2));
      top[r] = fmaxf(top[r], state.max[r]);
      exceeds |= !((top[r] - state.max[r]) * scale_log2 <= kSlack);
    }
    const bool rescale = __any_sync(~0u, exceeds);
    if (rescale) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        factor[r] = Exp2((state.max[r] - top[r]) * scale_log2);
        state.max[r] = top[r];
        state.sum[r] *= factor[r];
      }
    }
    const float shift[2] = {-state.max[0] * scale_log2, -state.max[1] * scale_log2};
    float sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < kKeys / 2; ++i) {
      s[i] = Exp2(fmaf(s[i], scale_log2, shift[i / 2 % 2]));
      sum[i / 2 % 2] += s[i];
    }
    state.sum[0] += sum[0];
    state.sum[1] += sum[1];
    return rescale;
  }

  // P = S in bf16: what a thread holds of an accumulator is what it must hold of a left operand.
  __device__ void RoundWeights() {
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) p[i] = PackBf16(s[2 * i], s[2 * i + 1]);
  }

  // S of tile j and O of tile j − 1.
  template <bool kMasked>
  __device__ void Step(int j, const int (&visible)[2], RowState& state) {
    BarrierWait(&sh.k_full[k_ring.stage], k_ring.parity);
    NamedSync(kTurnBarrier + warpgroup, 256);
    Pin(s);
    Pin(o);
    WgmmaFence();
    MultiplyKeys();
    BarrierWait(&sh.v_full[v_ring.stage], v_ring.parity);
    WgmmaFence();
    MultiplyValues(j > 1);
    NamedArrive(kTurnBarrier + (warpgroup + 1) % kWarpgroups<kD>, 256);
    WgmmaWait<1>();
    Pin(s);
    Release(&sh.k_empty[k_ring.stage]);
    k_ring.Advance();
    if (kMasked) Mask(j * kKeys, visible);
    float factor[2];
    const bool rescale = Softmax(state, factor);
    Pin(s);
    WgmmaWait<0>();
    Pin(o);
    Release(&sh.v_empty[v_ring.stage]);
    v_ring.Advance();
    if (rescale) {
#pragma unroll
      for (int i = 0; i < kD / 2; ++i) o[i] *= factor[i / 2 % 2];
    }
    RoundWeights();
  }

  // Rows of the V tile that no query sees: 0 · NaN must not count. Every warpgroup does it for
  // itself.
  __device__ void ClearValues(int first_row) {
    uint4* tile = reinterpret_cast<uint4*>(sh.v[v_ring.stage]);
    constexpr int kPerRow = kChunk * 2 / 16;
    for (int c = 0; c < kD / kChunk; ++c) {
      for (int i = first_row * kPerRow + threadIdx.x % 128; i < kKeys * kPerRow; i += 128) {
        tile[c * kKeys * kPerRow + i] = uint4{};
      }
    }
    AsyncProxyFence();
    NamedSync(kOwnBarrier + warpgroup, 128);
  }

  __device__ void Store(const Tile<kD>& tile, RowState& state, const CUtensorMap* out_map) {
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      state.sum[r] += __shfl_xor_sync(~0u, state.sum[r], 1);
      state.sum[r] += __shfl_xor_sync(~0u, state.sum[r], 2);
      inverse[r] = 1.0f / state.sum[r];
      const int token = tile.token + ((row + 8 * r) >> a.pack_shift);
      if (a.lse != nullptr && lane % 4 == 0 && token >= a.lse_begin && token < a.rows) {
        const int pack_mask = (1 << a.pack_shift) - 1;
        const int head = (tile.head_tile << a.pack_shift) + ((row + 8 * r) & pack_mask);
        a.lse[int64_t{head} * (a.rows - a.lse_begin) + token - a.lse_begin] =
            state.max[r] * scale_log2 * 0.69314718f + logf(state.sum[r]);
      }
    }
    if (threadIdx.x % 128 == 0) StoreWaitRead();  // the last tile's
    NamedSync(kOwnBarrier + warpgroup, 128);
#pragma unroll
    for (int c = 0; c < kD; c += 16) {
      const float* x = o + c / 2;
      StoreMatrix(SharedAddress(sh.out[warpgroup]) + MatrixOffset(c),
                  PackBf16(x[0] * inverse[0], x[1] * inverse[0]),
                  PackBf16(x[2] * inverse[1], x[3] * inverse[1]),
                  PackBf16(x[4] * inverse[0], x[5] * inverse[0]),
                  PackBf16(x[6] * inverse[1], x[7] * inverse[1]));
    }
    AsyncProxyFence();
    NamedSync(kOwnBarrier + warpgroup, 128);
    if (threadIdx.x % 128 == 0) {
#pragma unroll
      for (int c = 0; c < kD; c += kChunk) {
        StoreTile(out_map, sh.out[warpgroup] + c * kRowsPerWarpgroup, c,
                  tile.head_tile << a.pack_shift,
                  tile.token + (warpgroup * kRowsPerWarpgroup >> a.pack_shift));
      }
      StoreCommit();
    }
  }

  __device__ void Run(const Tile<kD>& tile, int keys_end, const CUtensorMap* out_map) {
    const int key_tiles = tile.KeyTiles(a);
    const int open_tiles = a.Visible(tile.token) / kKeys;  // seen whole by every row
    int visible[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      visible[r] = a.Visible(min(tile.token + ((row + 8 * r) >> a.pack_shift), a.rows - 1));
    }
    RowState state;
    TakeQueries();
    BarrierWait(&sh.k_full[k_ring.stage], k_ring.parity);
    Pin(s);
    WgmmaFence();
    MultiplyKeys();
    WgmmaWait<0>();
    Pin(s);
    Release(&sh.k_empty[k_ring.stage]);
    k_ring.Advance();
    if (open_tiles == 0) Mask(0, visible);
    float factor[2];
    Softmax(state, factor);
    RoundWeights();
    int j = 1;
    for (; j < min(open_tiles, key_tiles); ++j) Step<false>(j, visible, state);
    for (; j < key_tiles; ++j) Step<true>(j, visible, state);
    if constexpr (!kQueriesInRegisters<kD>) Release(&sh.q_empty);
    BarrierWait(&sh.v_full[v_ring.stage], v_ring.parity);
    if (key_tiles * kKeys > keys_end) ClearValues(keys_end - (key_tiles - 1) * kKeys);
    Pin(o);
    WgmmaFence();
    MultiplyValues(key_tiles > 1);
    WgmmaWait<0>();
    Pin(o);
    Release(&sh.v_empty[v_ring.stage]);
    v_ring.Advance();
    Store(tile, state, out_map);
  }
};

template <int kD>
__global__ void __launch_bounds__(kThreads<kD>, 1)
    AttentionKernel(const __grid_constant__ CUtensorMap q_map,
                    const __grid_constant__ CUtensorMap k_map,
                    const __grid_constant__ CUtensorMap v_map,
                    const __grid_constant__ CUtensorMap out_map,
                    const __grid_constant__ AttentionArgs args) {
  extern __shared__ __align__(1024) unsigned char shared_bytes[];
  auto& sh = *reinterpret_cast<AttentionShared<kD>*>(shared_bytes);
  if (threadIdx.x == 0) {
    constexpr int kConsumerWarps = kWarpgroups<kD> * 4;
    BarrierInit(&sh.q_full, 1);
    BarrierInit(&sh.q_empty, kConsumerWarps);
    for (int i = 0; i < kStages; ++i) {
      BarrierInit(&sh.k_full[i], 1);
      BarrierInit(&sh.v_full[i], 1);
      BarrierInit(&sh.k_empty[i], kConsumerWarps);
      BarrierInit(&sh.v_empty[i], kConsumerWarps);
    }
    BarrierInitFence();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    RegistersDown<kProducerRegisters<kD>>();
    if (threadIdx.x == 0) Produce(sh, args, &q_map, &k_map, &v_map);
  } else {
    RegistersUp<kConsumerRegisters<kD>>();
    Consumer<kD> consumer{sh, args, 1.44269504f / sqrtf(static_cast<float>(kD))};
    const int tiles = args.head_tiles * args.row_tiles;
    const int keys_end = args.Visible(args.rows - 1);
    // The first turn is the first warpgroup's.
    if (consumer.warpgroup == kWarpgroups<kD> - 1) NamedArrive(kTurnBarrier, 256);
    for (int turn = 0; Tile<kD>::Index(turn) < tiles; ++turn) {
      consumer.Run(Tile<kD>(args, Tile<kD>::Index(turn)), keys_end, &out_map);
    }
    if (threadIdx.x % 128 == 0) StoreWaitRead();
  }
}

}  // namespace winnow::sm90
