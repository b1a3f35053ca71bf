#pragma once

// The kernel behind kernels/attention_sm80.cu, after arXiv 2307.08691.
//
// A block is four warps and one tile of 64·kM query rows; a warp has 16·kM of them, with their
// scores S [16·kM][64], weights P and outputs O [16·kM][kD] in registers, and never needs another
// warp's. K and V pass through shared memory in tiles of 64 keys, in two buffers: while the product
// with one is made, cp.async fills the other. Several blocks share a multiprocessor, and one's
// softmax runs beside another's products.
//
// Rows: 2^pack_shift query heads of one kv head share a tile, so row r of a tile is token
// r >> pack_shift, head r & (pack − 1) (AttentionSm80Plan).
//
// Softmax: keys are taken in ascending order and every row sees key 0, so the running maximum m is
// finite from the first tile on. With s the raw product, p = exp2((s − m)·log2(e)/√d): one
// multiply-add and one ex2. m follows the true maximum only when that is more than kSlack (in
// powers of two) above it, which spares most rescalings of O; p ≤ 2^kSlack is as exact in bf16 as
// p ≤ 1, and the quotient O/l does not depend on m. Each row decides for itself and is computed in
// the same order for every kM, so that its bits do not depend on its neighbours or on the tile.

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "kernels/attention_sm80_layout.h"
#include "kernels/attention_sm80_ptx.cuh"

namespace winnow::sm80 {

struct AttentionArgs {
  const uint16_t* q;         // [rows][q_heads][kD], rows q_stride elements apart
  const uint16_t* k;         // [kv_heads][capacity][kD]
  const uint16_t* v;         // [kv_heads][capacity][kD]
  uint16_t* out;             // [rows][q_heads][kD]
  const int32_t* positions;  // [rows] or null
  float* lse;                // [q_heads][rows − lse_begin] or null
  int64_t q_stride, capacity;
  int rows, first_visible, lse_begin, q_heads;
  int pack_shift;
  int row_tiles, head_tiles, group_tiles, section_heads;  // as in AttentionSm80Plan

  __device__ int Visible(int row) const {
    return first_visible + (positions != nullptr ? positions[row] : row);
  }
};

constexpr float kSlack = 8.0f;

// Q stays in registers where they have room beside S and O.
template <int kD, int kM>
constexpr bool kQueriesInRegisters = kD* kM <= 128;
// Per multiprocessor: what the registers of 65536 allow, by O's part of them.
template <int kD, int kM>
constexpr int kBlocks = kM == 2    ? 2
                        : kD == 64 ? 4
                                   : 3;

// What a block computes.
struct Tile {
  int token;  // of its first row
  int head;   // of its first row
  int kv_head;

  __device__ Tile(const AttentionArgs& a, int block, int tokens) {
    const BlockPlace place = PlaceOfBlock(block, a.row_tiles, a.head_tiles, a.section_heads);
    token = place.row_tile * tokens;
    head = place.head_tile << a.pack_shift;
    kv_head = place.head_tile / a.group_tiles;
  }
};

template <int kD, int kM>
struct Worker {
  static constexpr int kRows = 16 * kM;              // of a warp
  static constexpr int kBlockRows = kWarps * kRows;  // of a block
  static constexpr int kTileBytes = kKeys * kRowBytes<kD>;
  static constexpr int kPlaceOfV = kTileBytes;
  static constexpr int kPlaceOfQ = kM == 1 ? kPlaceOfV : 2 * kTileBytes;

  const AttentionArgs& a;
  const Tile tile;
  unsigned char* const shared;
  const float scale_log2;  // log2(e)/√d
  const int lane = threadIdx.x % 32;
  const int warp_row = threadIdx.x / 32 * kRows;  // first row of the warp in the tile
  const uint32_t base = SharedAddress(shared);
  // Where this lane's addresses of ldmatrix begin.
  const uint32_t q_lane =
      base + kPlaceOfQ + PieceOffset<kD>(warp_row + RowOfLeft(lane), PieceOfLeft(lane));
  const uint32_t k_lane = base + PieceOffset<kD>(RowOfRight(lane), PieceOfRight(lane));
  const uint32_t v_lane = base + kPlaceOfV + PieceOffset<kD>(RowOfLeft(lane), PieceOfLeft(lane));
  // This lane's rows are AccumulatorRow(lane, 2·h) of each 16, h = 0, 1.
  int visible[kM][2];
  float max[kM][2], sum[kM][2];  // of the raw products; this lane's part of the sum of p
  // The warp's matrices, a 32nd of each.
  uint32_t q[kQueriesInRegisters<kD, kM> ? kD / 16 : 1][kM][4];  // [16·kM][kD] bf16
  float s[kM][kKeys / 8][4];                                     // [16·kM][64]
  float o[kM][kD / 8][4];                                        // [16·kM][kD]

  __device__ int Token(int row) const { return tile.token + (row >> a.pack_shift); }
  __device__ int Head(int row) const { return tile.head + (row & ((1 << a.pack_shift) - 1)); }

  __device__ void Start() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = warp_row + 16 * m + AccumulatorRow(lane, 2 * h);
        visible[m][h] = a.Visible(min(Token(row), a.rows - 1));
        max[m][h] = -INFINITY;
        sum[m][h] = 0.0f;
      }
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[m][n][i] = 0.0f;
      }
    }
  }

  // Copies rows of [..][kD], those for which `valid`, as a tile; zeros for the rest.
  template <int kCount, typename Source, typename Valid>
  __device__ void CopyTile(int place, Source source, Valid valid) const {
    const int row = CopyRow<kD>(threadIdx.x), piece = CopyPiece<kD>(threadIdx.x);
    const uint32_t to = base + place + PieceOffset<kD>(row, piece);
#pragma unroll
    for (int r = 0; r < kCount; r += kCopyRows<kD>) {
      const uint16_t* from = source(row + r) + piece * kPieceSize;
      const bool is_valid = valid(row + r);
#pragma unroll
      for (int c = 0; c < kPieces<kD>; c += kRun<kD>) {
        CopyAsync(to + r * kRowBytes<kD> + c * kPieceBytes, from + c * kPieceSize, is_valid);
      }
    }
    CopyCommit();
  }

  __device__ void CopyQueries() const {
    CopyTile<kBlockRows>(
        kPlaceOfQ,
        [&](int row) { return a.q + min(Token(row), a.rows - 1) * a.q_stride + Head(row) * kD; },
        [&](int row) { return Token(row) < a.rows; });
  }

  // Tile j of K or V of the kv head; keys from `keys_end` on, which no row of the block sees, are
  // zeros: 0 · NaN must not count.
  __device__ void CopyKeys(int place, const uint16_t* keys, int j, int keys_end) const {
    const int first = j * kKeys;
    keys += int64_t{first} * kD;
    CopyTile<kKeys>(
        place, [&](int row) { return keys + row * kD; },
        [&](int row) { return first + row < keys_end; });
  }

  __device__ void LoadQueries(int step, uint32_t (&to)[kM][4]) const {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      LoadMatrix(Further<kD>(q_lane, 2 * step) + 16 * m * kRowBytes<kD>, to[m]);
    }
  }

  // S = Q·Kᵀ
  __device__ void MultiplyKeys() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[m][n][i] = 0.0f;
      }
    }
#pragma unroll
    for (int step = 0; step < kD / 16; ++step) {
      auto& left = q[kQueriesInRegisters<kD, kM> ? step : 0];
      if constexpr (!kQueriesInRegisters<kD, kM>) LoadQueries(step, left);
#pragma unroll
      for (int n = 0; n < kKeys / 8; n += 2) {
        uint32_t right[4];
        LoadMatrix(Further<kD>(k_lane, 2 * step) + 8 * n * kRowBytes<kD>, right);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          MultiplyAdd(s[m][n], left[m], right[0], right[1]);
          MultiplyAdd(s[m][n + 1], left[m], right[2], right[3]);
        }
      }
    }
  }

  // O += P·V, P = S in bf16.
  __device__ void MultiplyValues() {
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      uint32_t left[kM][4];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* pair = &s[m][2 * step + i / 2][i % 2 * 2];
          left[m][i] = PackBf16(pair[0], pair[1]);
        }
      }
#pragma unroll
      for (int n = 0; n < kD / 8; n += 2) {
        uint32_t right[4];
        LoadMatrixTransposed(Further<kD>(v_lane, n) + 16 * step * kRowBytes<kD>, right);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
          MultiplyAdd(o[m][n], left[m], right[0], right[1]);
          MultiplyAdd(o[m][n + 1], left[m], right[2], right[3]);
        }
      }
    }
  }

  __device__ void Mask(int first_key) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = first_key + 8 * n + AccumulatorColumn(lane, i);
          if (key >= visible[m][i / 2]) s[m][n][i] = -INFINITY;
        }
      }
    }
  }

  // S becomes P; O and the sums are rescaled where the maximum rises.
  __device__ void Softmax(int m) {
    float top[2] = {s[m][0][0], s[m][0][2]};
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) top[i / 2] = fmaxf(top[i / 2], s[m][n][i]);
    }
    bool rises[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 1));
      top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 2));
      top[h] = fmaxf(top[h], max[m][h]);
      rises[h] = !((top[h] - max[m][h]) * scale_log2 <= kSlack);
    }
    if (__any_sync(~0u, rises[0] || rises[1])) {
      float factor[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        factor[h] = rises[h] ? Exp2((max[m][h] - top[h]) * scale_log2) : 1.0f;
        if (rises[h]) max[m][h] = top[h];
        sum[m][h] = __fmul_rn(sum[m][h], factor[h]);
      }
#pragma unroll
      for (int n = 0; n < kD / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[m][n][i] *= factor[i / 2];
      }
    }
    const float shift[2] = {-max[m][0] * scale_log2, -max[m][1] * scale_log2};
    float part[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[m][n][i] = Exp2(fmaf(s[m][n][i], scale_log2, shift[i / 2]));
        part[i / 2] += s[m][n][i];
      }
    }
    // Never fused with the product above, so that every kM rounds alike.
    sum[m][0] = __fadd_rn(sum[m][0], part[0]);
    sum[m][1] = __fadd_rn(sum[m][1], part[1]);
  }

  // The sums of whole rows, and their logarithms.
  __device__ void FinishSums() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum[m][h] += __shfl_xor_sync(~0u, sum[m][h], 1);
        sum[m][h] += __shfl_xor_sync(~0u, sum[m][h], 2);
        const int row = warp_row + 16 * m + AccumulatorRow(lane, 2 * h), token = Token(row);
        if (a.lse != nullptr && lane % 4 == 0 && token >= a.lse_begin && token < a.rows) {
          a.lse[int64_t{Head(row)} * (a.rows - a.lse_begin) + token - a.lse_begin] =
              fmaf(max[m][h] * scale_log2, 0.69314718f, logf(sum[m][h]));
        }
      }
    }
  }

  // Through shared memory, whole pieces to the outputs. REQUIRES: no warp reads K or V any more.
  __device__ void Store() const {
    unsigned char* const rows = shared + kPlaceOfQ;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float inverse = 1.0f / sum[m][h];
        const int row = warp_row + 16 * m + AccumulatorRow(lane, 2 * h);
#pragma unroll
        for (int n = 0; n < kD / 8; ++n) {
          const int byte = PieceOffset<kD>(row, n) + AccumulatorColumn(lane, 0) * 2;
          *reinterpret_cast<uint32_t*>(rows + byte) =
              PackBf16(o[m][n][2 * h] * inverse, o[m][n][2 * h + 1] * inverse);
        }
      }
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < kRows * kPieces<kD>; i += 32) {
      const int row = warp_row + i / kPieces<kD>, piece = i % kPieces<kD>, token = Token(row);
      if (token >= a.rows) continue;
      uint16_t* to = a.out + (int64_t{token} * a.q_heads + Head(row)) * kD + piece * kPieceSize;
      *reinterpret_cast<uint4*>(to) =
          *reinterpret_cast<const uint4*>(rows + PieceOffset<kD>(row, piece));
    }
  }

  __device__ void Run() {
    const int tokens = kBlockRows >> a.pack_shift;
    const int keys_end = a.Visible(min(tile.token + tokens, a.rows) - 1);
    const int key_tiles = (keys_end + kKeys - 1) / kKeys;
    const int warp_open = a.Visible(min(Token(warp_row), a.rows - 1));  // seen by all its rows
    const int64_t head_begin = tile.kv_head * a.capacity * kD;
    const uint16_t *const keys = a.k + head_begin, *const values = a.v + head_begin;
    CopyQueries();
    CopyKeys(0, keys, 0, keys_end);
    Start();
    if constexpr (kQueriesInRegisters<kD, kM>) {
      CopyWait<1>();
      __syncthreads();
#pragma unroll
      for (int step = 0; step < kD / 16; ++step) LoadQueries(step, q[step]);
    }
    for (int j = 0; j < key_tiles; ++j) {
      CopyWait<0>();
      __syncthreads();  // K is there, and nobody reads what is in V's place
      CopyKeys(kPlaceOfV, values, j, keys_end);
      MultiplyKeys();
      CopyWait<0>();
      __syncthreads();  // V is there, and nobody reads K
      if (j + 1 < key_tiles) CopyKeys(0, keys, j + 1, keys_end);
      if ((j + 1) * kKeys > warp_open) Mask(j * kKeys);
#pragma unroll
      for (int m = 0; m < kM; ++m) Softmax(m);
      MultiplyValues();
    }
    FinishSums();
    __syncthreads();
    Store();
  }
};

template <int kD, int kM>
__global__ void __launch_bounds__(kThreads, kBlocks<kD, kM>)
    AttentionKernel(const __grid_constant__ AttentionArgs args) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int tokens = Worker<kD, kM>::kBlockRows >> args.pack_shift;
  Worker<kD, kM> worker{args, Tile(args, blockIdx.x, tokens), shared,
                        1.44269504f / sqrtf(static_cast<float>(kD))};
  worker.Run();
}

}  // namespace winnow::sm80
