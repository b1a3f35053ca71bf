#include "kernels/cuda_types.cuh"
#include "kernels/select_tokens.h"
#include "kernels/select_tokens_kernel.cuh"

namespace winnow {
namespace {

template <bool kStaged>
__global__ void __cluster_dims__(kSelectClusterBlocks, 1, 1) __launch_bounds__(kSelectThreads)
    SelectTokensClusterKernel(SelectTokensParams p) {
  SelectRow<kStaged, kSelectClusterBlocks>(p);
}

}  // namespace

void SelectTokensSm90(const SelectTokensParams& p, CudaStream stream) {
  const size_t bytes = SelectShare(p.num_tokens, kSelectClusterBlocks) * sizeof(uint32_t);
  const bool staged = FitsShared(bytes + kSelectOwnBytes);
  const size_t shared = staged ? bytes : 0;
  const auto blocks = static_cast<unsigned>(p.rows * kSelectClusterBlocks);
  WithShared(staged ? SelectTokensClusterKernel<true> : SelectTokensClusterKernel<false>,
             shared)<<<blocks, kSelectThreads, shared, stream>>>(p);
}

}  // namespace winnow
