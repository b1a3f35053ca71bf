#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/paged_attention.h"
#include "kernels/select_tokens.h"
#include "kernels/types.h"
#include "kernels/window_scores.h"

namespace winnow {

// Lets the tests of the host's ops run the GPU's: programs that link gpu_memory.cc allocate all
// their memory where a GPU reaches it. Without a GPU such a program says so and exits with 77.

// Waits for the device; throws with the text of an error.
void WaitForGpu();
// Device-reachable memory that lives as long as the program.
void* GpuScratch(int64_t bytes);

// An op that only enqueues, as one that is done when it returns.
template <typename Params, void (*kRun)(const Params&, CudaStream)>
void OnGpu(const Params& p) {
  kRun(p, nullptr);
  WaitForGpu();
}

// The flag of tests lies on the stack, which a GPU does not reach.
template <typename Params, void (*kRun)(const Params&, CudaStream)>
void OnGpuWithFlag(const Params& p) {
  auto* flag = static_cast<float*>(GpuScratch(sizeof(float)));
  *flag = p.nan != nullptr ? *p.nan : 0.0f;
  Params moved = p;
  moved.nan = flag;
  OnGpu<Params, kRun>(moved);
  if (p.nan != nullptr) *p.nan = *flag;
}

inline void WindowScoresOnGpu(const WindowScoresParams& p) {
  WindowScoresCuda(p, GpuScratch(WindowScoresWorkspace(p)), nullptr);
  WaitForGpu();
}

// One workspace for all calls, as a backend has it: each must leave it fit for the next.
inline void PagedAttentionOnGpu(const PagedAttentionParams& p) {
  constexpr int64_t kBytes = 64 << 20;
  static void* const workspace = std::memset(GpuScratch(kBytes), 0, kBytes);
  if (PagedAttentionWorkspace(p) > kBytes) throw std::runtime_error("the workspace is too small");
  PagedAttentionCuda(p, workspace, nullptr);
  WaitForGpu();
}

}  // namespace winnow
