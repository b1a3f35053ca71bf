#include "kernels/attention_sm80.h"

#include <cuda_runtime.h>

#include <bit>
#include <cstdint>

#include "kernels/attention_sm80_kernel.cuh"
#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

AttentionSm80Device CurrentDevice() {
  int device = 0, l2_bytes = 0;
  AttentionSm80Device sizes;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&sizes.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&sizes.shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
  cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device);
  sizes.l2_bytes = l2_bytes;
  return sizes;
}

sm80::AttentionArgs Args(const AttentionParams& p, const AttentionSm80Plan& plan) {
  sm80::AttentionArgs args = {};
  args.q = static_cast<const uint16_t*>(p.q);
  args.k = static_cast<const uint16_t*>(p.k);
  args.v = static_cast<const uint16_t*>(p.v);
  args.out = static_cast<uint16_t*>(p.out);
  args.positions = p.positions;
  args.lse = p.lse;
  args.q_stride = p.q_stride;
  args.capacity = p.capacity;
  args.rows = static_cast<int>(p.rows);
  args.first_visible = static_cast<int>(p.first_visible);
  args.lse_begin = static_cast<int>(p.lse_begin);
  args.q_heads = p.q_heads;
  args.pack_shift = std::countr_zero(static_cast<unsigned>(plan.pack));
  args.row_tiles = plan.row_tiles;
  args.head_tiles = plan.head_tiles;
  args.group_tiles = plan.group_tiles;
  args.section_heads = plan.section_heads;
  return args;
}

template <int kD, int kM>
void Launch(const AttentionParams& p, const AttentionSm80Plan& plan, CudaStream stream) {
  const int shared_bytes = sm80::SharedBytes(kD, plan.block_rows);
  const auto kernel = WithShared(sm80::AttentionKernel<kD, kM>, shared_bytes);
  kernel<<<plan.head_tiles * plan.row_tiles, sm80::kThreads, shared_bytes, stream>>>(Args(p, plan));
}

template <int kD>
void LaunchRows(const AttentionParams& p, const AttentionSm80Plan& plan, CudaStream stream) {
  plan.block_rows == 128 ? Launch<kD, 2>(p, plan, stream) : Launch<kD, 1>(p, plan, stream);
}

}  // namespace

bool AttentionSm80Supports(const AttentionParams& p) {
  constexpr int64_t kMost = INT32_MAX / 2;
  return p.dtype == DType::kBf16 && (p.head_dim == 64 || p.head_dim == 96 || p.head_dim == 128) &&
         p.kv_heads > 0 && p.q_heads > 0 && p.q_heads % p.kv_heads == 0 && p.q_stride % 8 == 0 &&
         IsAligned16(p.q) && IsAligned16(p.k) && IsAligned16(p.v) && IsAligned16(p.out) &&
         p.capacity < kMost && p.rows * p.q_heads < kMost;
}

void AttentionSm80(const AttentionParams& p, CudaStream stream, int block_rows) {
  if (p.rows == 0) return;
  const AttentionSm80Plan plan = PlanAttentionSm80(p, CurrentDevice(), block_rows);
  switch (p.head_dim) {
    case 64:
      return LaunchRows<64>(p, plan, stream);
    case 96:
      return LaunchRows<96>(p, plan, stream);
    default:
      return LaunchRows<128>(p, plan, stream);
  }
}

}  // namespace winnow
