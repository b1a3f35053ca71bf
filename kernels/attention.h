#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Causal grouped-query attention of one request's rows against its cached keys, blocked with a
// running maximum (arXiv 2205.14135), so that no rows × keys matrix exists. For row i, query head
// h, kv head u = h / (q_heads/kv_heads):
//   out[i,h] = Σ_{j < visible(i)} softmax_j(q[i,h]·k[u,j] / √head_dim) · v[u,j],  visible(i) = 1 +
//   last key that i sees.
// visible(i) = first_visible + positions[i] when positions are given (kept rows against all N keys:
// their own positions and first_visible 1), else first_visible + i (consecutive rows: the query
// offset + 1). fp32 inside. Cost: 4·head_dim·q_heads·Σ visible(i) FLOP. Several requests are packed
// as one call each over the same backend queue.
struct AttentionParams {
  const void* q = nullptr;  // [rows][q_heads][head_dim], rows q_stride elements apart, rotated
  const void* k = nullptr;  // [kv_heads][capacity][head_dim], rotated
  const void* v = nullptr;  // [kv_heads][capacity][head_dim]
  void* out = nullptr;      // [rows][q_heads][head_dim], dense
  const int32_t* positions = nullptr;  // [rows], ≥ 0, not decreasing; or null
  DType dtype = DType::kF32;           // of q, k, v, out
  int64_t rows = 0;
  int64_t q_stride = 0;
  int64_t capacity = 0;  // slots per kv head; every visible(i) ≤ capacity
  int64_t first_visible = 1;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  // Optional: natural log of Σ_j exp(q·k/√d) of rows lse_begin..rows−1.
  float* lse = nullptr;  // [q_heads][rows − lse_begin]
  int64_t lse_begin = 0;
};

void AttentionRef(const AttentionParams& p);
void AttentionCpu(const AttentionParams& p);
void AttentionCuda(const AttentionParams& p, CudaStream stream);

}  // namespace winnow
