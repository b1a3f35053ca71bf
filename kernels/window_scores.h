#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Token scores of one layer by its last W queries (docs/claa.md, steps 1–4). With window row i at
// position E + i:
//   A[h,i,j] = softmax over j ≤ E+i of q[h,i]·k[u(h),j]/√d      a[h,j] = Σ_i A[h,i,j] for j < E
//   p[h,j] = (1/κ) Σ_{|t| ≤ (κ−1)/2} a[h,j+t], zeros outside [0,E)   s[u,j] = Σ_{h in group u}
//   p[h,j]
// fp32. Cost: one read of K or two, 2·q_heads·W·(E+W)·d FLOP.
struct WindowScoresParams {
  const void* q = nullptr;  // [q_heads][window][head_dim], rotated
  const void* k = nullptr;  // [kv_heads][capacity][head_dim], rotated
  float* scores = nullptr;  // [kv_heads][window_begin]
  // Where attention has them: natural logarithms of the softmax's denominators, of window row i and
  // head h at lse[h · lse_stride + i]. An implementation may use them and read K once.
  const float* lse = nullptr;
  int64_t lse_stride = 0;
  DType dtype = DType::kF32;  // of q and k
  int64_t window_begin = 0;   // E ≥ 1
  int64_t capacity = 0;       // slots per kv head, ≥ E + window
  int window = 0;             // W
  int pool_kernel = 1;        // κ, odd
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

void WindowScoresRef(const WindowScoresParams& p);
void WindowScoresCpu(const WindowScoresParams& p);
// Device scratch for one call, in bytes.
int64_t WindowScoresWorkspace(const WindowScoresParams& p);
void WindowScoresCuda(const WindowScoresParams& p, void* workspace, CudaStream stream);

// Keeps the W rows of a window out of a chunk's queries: out[h,i] = q[row_begin + i, h] for i <
// rows.
struct GatherWindowParams {
  const void* q =
      nullptr;  // [≥ rows][q_heads][head_dim], rows q_stride elements apart: the first row wanted
  void* out = nullptr;  // [q_heads][window][head_dim]
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t q_stride = 0;
  int64_t window_row = 0;  // window row of q's first row; window_row + rows ≤ window
  int window = 0;
  int q_heads = 0;
  int head_dim = 0;
};

void GatherWindowRef(const GatherWindowParams& p);
void GatherWindowCpu(const GatherWindowParams& p);
void GatherWindowCuda(const GatherWindowParams& p, CudaStream stream);

}  // namespace winnow
