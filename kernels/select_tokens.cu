#include "kernels/cuda_types.cuh"
#include "kernels/select_tokens.h"
#include "kernels/select_tokens_kernel.cuh"

namespace winnow {
namespace {

// From here on a row is faster by a cluster of blocks (docs/performance.md).
constexpr int64_t kManyTokens = 16384;

__global__ void MaxScoresKernel(MaxScoresParams p) {
  const int64_t j = blockIdx.x * int64_t{256} + threadIdx.x;
  if (j >= p.count) return;
  float best = p.best[j];
  bool nan = false;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float x = p.scores[r * p.count + j];
    nan |= isnan(x);
    best = fmaxf(best, x);
  }
  p.best[j] = best;
  if (nan) *p.nan = 1.0f;  // every writer writes the same
}

template <bool kStaged>
__global__ void __launch_bounds__(kSelectThreads) SelectTokensKernel(SelectTokensParams p) {
  SelectRow<kStaged, 1>(p);
}

}  // namespace

void MaxScoresCuda(const MaxScoresParams& p, CudaStream stream) {
  if (p.count == 0) return;
  MaxScoresKernel<<<NumBlocks(p.count, 256), 256, 0, stream>>>(p);
}

void SelectTokensCuda(const SelectTokensParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  if (ComputeCapabilityMajor() == 9 && p.num_tokens >= kManyTokens) {
    return SelectTokensSm90(p, stream);
  }
  const size_t bytes = p.window_begin * sizeof(uint32_t);
  const bool staged = FitsShared(bytes + kSelectOwnBytes);
  const size_t shared = staged ? bytes : 0;
  WithShared(staged ? SelectTokensKernel<true> : SelectTokensKernel<false>,
             shared)<<<static_cast<unsigned>(p.rows), kSelectThreads, shared, stream>>>(p);
}

}  // namespace winnow
