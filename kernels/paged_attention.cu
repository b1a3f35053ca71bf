#include "kernels/paged_attention.h"

#include <algorithm>

#include "kernels/cuda_types.cuh"
#include "kernels/paged_attention_kernel.cuh"

namespace winnow {
namespace {

using namespace paged;  // NOLINT: the kernel's parts

constexpr int kMaxHeads = 8;            // query heads that share one reading of K and V
constexpr int kBlocksPerProcessor = 4;  // that are wanted: a wave, or two
constexpr int64_t kMaxCounters = 65536;

int NumProcessors() {
  static const int count = [] {
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    return std::max(processors, 1);
  }();
  return count;
}

Cut MakeCut(const PagedAttentionParams& p) {
  Cut cut;
  cut.whole = p.head_dim % kDims == 0 && IsAligned16(p.k_blocks) && IsAligned16(p.v_blocks);
  const int group = p.q_heads / p.kv_heads;
  if (cut.whole) {
    cut.lanes = p.head_dim <= 8 * kDims ? 8 : p.head_dim <= 16 * kDims ? 16 : 32;
    while (cut.heads < std::min(group, kMaxHeads)) cut.heads *= 2;
  }
  cut.groups = (group + cut.heads - 1) / cut.heads;
  const int64_t blocks = p.batch * p.kv_heads * cut.groups;
  if (blocks > kMaxCounters) return cut;
  cut.splits = static_cast<int>(std::clamp<int64_t>(
      kBlocksPerProcessor * NumProcessors() / std::max<int64_t>(blocks, 1), 1, kMaxSplits));
  return cut;
}

template <typename T, int kLanes, int kHeads, bool kWhole>
void Launch(const PagedAttentionParams& p, const Cut& cut, const Partials& partials,
            CudaStream stream) {
  const dim3 grid(cut.splits, p.kv_heads * cut.groups, static_cast<unsigned>(p.batch));
  const size_t shared = sizeof(float) * (kThreads / kLanes) * kHeads * p.head_dim;
  PagedAttentionKernel<T, kLanes, kHeads, kWhole>
      <<<grid, kThreads, shared, stream>>>(p, cut, partials);
}

template <typename T, int kLanes>
void LaunchHeads(const PagedAttentionParams& p, const Cut& cut, const Partials& partials,
                 CudaStream stream) {
  switch (cut.heads) {
    case 1:
      return Launch<T, kLanes, 1, true>(p, cut, partials, stream);
    case 2:
      return Launch<T, kLanes, 2, true>(p, cut, partials, stream);
    case 4:
      return Launch<T, kLanes, 4, true>(p, cut, partials, stream);
    default:
      return Launch<T, kLanes, kMaxHeads, true>(p, cut, partials, stream);
  }
}

}  // namespace

int64_t PagedAttentionWorkspace(const PagedAttentionParams& p) {
  const int64_t parts = p.batch * p.q_heads * MakeCut(p).splits;
  return kMaxCounters * static_cast<int64_t>(sizeof(unsigned)) +
         parts * (p.head_dim + 2) * static_cast<int64_t>(sizeof(float));
}

void PagedAttentionCuda(const PagedAttentionParams& p, void* workspace, CudaStream stream) {
  if (p.batch == 0) return;
  const Cut cut = MakeCut(p);
  const int64_t parts = p.batch * p.q_heads * cut.splits;
  Partials partials{.arrived = static_cast<unsigned*>(workspace)};
  partials.highest = reinterpret_cast<float*>(partials.arrived + kMaxCounters);
  partials.denominators = partials.highest + parts;
  partials.sums = partials.denominators + parts;
  DispatchDType(p.dtype, [&]<typename T>() {
    if (!cut.whole) return Launch<T, 32, 1, false>(p, cut, partials, stream);
    if (cut.lanes == 8) return LaunchHeads<T, 8>(p, cut, partials, stream);
    if (cut.lanes == 16) return LaunchHeads<T, 16>(p, cut, partials, stream);
    return LaunchHeads<T, 32>(p, cut, partials, stream);
  });
}

}  // namespace winnow
