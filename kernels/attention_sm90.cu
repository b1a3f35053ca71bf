#include "kernels/attention_sm90.h"

#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/attention_sm90_kernel.cuh"

namespace winnow {
namespace {

using sm90::AttentionArgs;
using sm90::kChunk;
using sm90::kKeys;
using sm90::kRowsPerWarpgroup;

// Keys and values that should stay in the L2 cache (50 MB) while a section's tiles run.
constexpr int64_t kSectionBytes = 36 << 20;
// Tiles per block that a section has at least: with fewer, blocks end it at different times.
constexpr int kSectionTurns = 8;

// bf16 [n2][n1][n0], n1 and n2 `stride1` and `stride2` elements apart, in boxes of
// [box2][box1][64]; what lies outside reads as 0 and is not written.
bool MakeMap(CUtensorMap* map, const void* base, const int64_t (&n)[3], int64_t stride1,
             int64_t stride2, int box1, int box2) {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return false;
  }
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(n[0]), static_cast<cuuint64_t>(n[1]),
                               static_cast<cuuint64_t>(n[2])};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride1) * 2,
                                 static_cast<cuuint64_t>(stride2) * 2};
  const cuuint32_t box[3] = {kChunk, static_cast<cuuint32_t>(box1), static_cast<cuuint32_t>(box2)};
  const cuuint32_t steps[3] = {1, 1, 1};
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
             map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(base), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// A launch of nothing: leaves cudaErrorInvalidConfiguration as the last error.
__global__ void Refused() {}

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
      MakeMap(&q, p.q, q_size, kD, p.q_stride, pack, tokens_per_box) &&
      MakeMap(&k, p.k, kv_size, kD, p.capacity * kD, kKeys, 1) &&
      MakeMap(&v, p.v, kv_size, kD, p.capacity * kD, kKeys, 1) &&
      MakeMap(&out, p.out, q_size, kD, int64_t{p.q_heads} * kD, pack, tokens_per_box);
  if (!mapped) {
    Refused<<<0, 1, 0, stream>>>();
    return;
  }
  const auto kernel = sm90::AttentionKernel<kD>;
  constexpr int kSharedBytes = sizeof(sm90::AttentionShared<kD>);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  kernel<<<std::min(multiprocessors, args.head_tiles * args.row_tiles), sm90::kThreads<kD>,
           kSharedBytes, stream>>>(q, k, v, out, args);
}

bool Aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

bool AttentionSm90Supports(const AttentionParams& p) {
  constexpr int64_t kMost = INT32_MAX / 2;
  return p.dtype == DType::kBf16 && (p.head_dim == 64 || p.head_dim == 128) && p.kv_heads > 0 &&
         p.q_heads > 0 && p.q_heads % p.kv_heads == 0 && p.q_stride % 8 == 0 && Aligned(p.q) &&
         Aligned(p.k) && Aligned(p.v) && Aligned(p.out) && p.capacity < kMost &&
         p.rows * p.q_heads < kMost;
}

void AttentionSm90(const AttentionParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  p.head_dim == 128 ? Launch<128>(p, stream) : Launch<64>(p, stream);
}

}  // namespace winnow
