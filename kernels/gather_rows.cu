#include "kernels/cuda_types.cuh"
#include "kernels/gather_rows.h"

namespace winnow {
namespace {

constexpr int kThreads = 256;  // a warp per row

template <typename Unit>
__global__ void GatherRowsKernel(GatherRowsParams p) {
  const int64_t i = blockIdx.x * int64_t{kThreads / 32} + threadIdx.x / 32;
  if (i >= p.rows) return;
  const int head = blockIdx.y;
  const int64_t from_row = p.index[head * p.index_head_stride + i];
  const auto* from = reinterpret_cast<const Unit*>(
      static_cast<const char*>(p.in) + head * p.in_head_stride + from_row * p.row_bytes);
  auto* to = reinterpret_cast<Unit*>(static_cast<char*>(p.out) + head * p.out_head_stride +
                                     i * p.row_bytes);
  const int64_t units = p.row_bytes / static_cast<int64_t>(sizeof(Unit));
  for (int64_t c = threadIdx.x % 32; c < units; c += 32) to[c] = from[c];
}

}  // namespace

void GatherRowsCuda(const GatherRowsParams& p, CudaStream stream) {
  if (p.rows == 0 || p.heads == 0) return;
  const dim3 grid(NumBlocks(p.rows, kThreads / 32), static_cast<unsigned>(p.heads));
  const bool wide = p.row_bytes % 16 == 0 && p.in_head_stride % 16 == 0 &&
                    p.out_head_stride % 16 == 0 && IsAligned16(p.in) && IsAligned16(p.out);
  if (wide) {
    GatherRowsKernel<int4><<<grid, kThreads, 0, stream>>>(p);
  } else {
    GatherRowsKernel<char><<<grid, kThreads, 0, stream>>>(p);
  }
}

}  // namespace winnow
