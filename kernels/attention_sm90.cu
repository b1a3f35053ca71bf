#include "kernels/attention_sm90.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/attention_sm90_kernel.cuh"
#include "kernels/cuda_types.cuh"
#include "kernels/tensor_map.cuh"

namespace winnow {
namespace {

using sm90::AttentionArgs;
using sm90::kKeys;
using sm90::kRowsPerWarpgroup;

// Keys and values that should stay in the L2 cache (50 MB) while a section's tiles run.
constexpr int64_t kSectionBytes = 36 << 20;
// Tiles per block that a section has at least: with fewer, blocks end it at different times.
constexpr int kSectionTurns = 8;

template <int kD>
void Launch(const AttentionParams& p, CudaStream stream) {
  // A power of two of the heads that share a kv head; every warpgroup's 64 rows hold whole tokens.
  const int group = p.q_heads / p.kv_heads;
  const int pack = std::min(group & -group, 16);
  const int tokens_per_box = kRowsPerWarpgroup / pack;
  const int tokens_per_tile = tokens_per_box * sm90::kWarpgroups<kD>;
  const int64_t head_bytes = p.capacity * kD * 2 * 2;  // K and V of a kv head
  AttentionArgs args = {};
  args.positions = p.positions;
  args.lse = p.lse;
  args.rows = static_cast<int>(p.rows);
  args.first_visible = static_cast<int>(p.first_visible);
  args.lse_begin = static_cast<int>(p.lse_begin);
  args.pack_shift = std::countr_zero(static_cast<unsigned>(pack));
  args.head_tiles = p.q_heads / pack;
  args.group_tiles = group / pack;
  args.row_tiles = (args.rows + tokens_per_tile - 1) / tokens_per_tile;
  int device = 0, multiprocessors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  const int64_t fitting = kSectionBytes / head_bytes * args.group_tiles;
  const int64_t balanced = (kSectionTurns * multiprocessors + args.row_tiles - 1) / args.row_tiles;
  args.section_heads =
      static_cast<int>(std::clamp<int64_t>(std::max(fitting, balanced), 1, args.head_tiles));

  CUtensorMap q, k, v, out;
  const int64_t q_size[3] = {kD, p.q_heads, p.rows}, kv_size[3] = {kD, p.capacity, p.kv_heads};
  const bool mapped =
      MakeTensorMap(&q, p.q, q_size, kD, p.q_stride, pack, tokens_per_box) &&
      MakeTensorMap(&k, p.k, kv_size, kD, p.capacity * kD, kKeys, 1) &&
      MakeTensorMap(&v, p.v, kv_size, kD, p.capacity * kD, kKeys, 1) &&
      MakeTensorMap(&out, p.out, q_size, kD, int64_t{p.q_heads} * kD, pack, tokens_per_box);
  if (!mapped) {
    RefuseLaunch(stream);
    return;
  }
  const auto kernel = sm90::AttentionKernel<kD>;
  constexpr int kSharedBytes = sizeof(sm90::AttentionShared<kD>);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  kernel<<<std::min(multiprocessors, args.head_tiles * args.row_tiles), sm90::kThreads<kD>,
           kSharedBytes, stream>>>(q, k, v, out, args);
}

}  // namespace

bool AttentionSm90Supports(const AttentionParams& p) {
  constexpr int64_t kMost = INT32_MAX / 2;
  return p.dtype == DType::kBf16 && (p.head_dim == 64 || p.head_dim == 128) && p.kv_heads > 0 &&
         p.q_heads > 0 && p.q_heads % p.kv_heads == 0 && p.q_stride % 8 == 0 && IsAligned16(p.q) &&
         IsAligned16(p.k) && IsAligned16(p.v) && IsAligned16(p.out) && p.capacity < kMost &&
         p.rows * p.q_heads < kMost;
}

void AttentionSm90(const AttentionParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  p.head_dim == 128 ? Launch<128>(p, stream) : Launch<64>(p, stream);
}

}  // namespace winnow
