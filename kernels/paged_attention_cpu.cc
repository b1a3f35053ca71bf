#include <algorithm>

#include "kernels/attention_row.h"
#include "kernels/paged_attention.h"

namespace winnow {
namespace {

template <typename T>
void Run(const PagedAttentionParams& p) {
  const int group = p.q_heads / p.kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic, 1)
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int u = 0; u < p.kv_heads; ++u) {
      AttentionRow<T> row(group, p.head_dim);
      for (int g = 0; g < group; ++g) {
        row.SetQuery(g, static_cast<const T*>(p.q) + b * p.q_stride + int64_t{u * group + g} * p.head_dim);
      }
      for (int32_t slot = 0; slot < p.lengths[b]; slot += p.block_size) {
        const int64_t block = p.block_table[b * p.max_blocks + slot / p.block_size];
        const int64_t at = (block * p.kv_heads + u) * p.block_size * p.head_dim;
        row.Add(static_cast<const T*>(p.k_blocks) + at, static_cast<const T*>(p.v_blocks) + at,
                std::min(p.block_size, p.lengths[b] - slot));
      }
      for (int g = 0; g < group; ++g) {
        row.Finish(g, static_cast<T*>(p.out) + (b * p.q_heads + u * group + g) * p.head_dim);
      }
    }
  }
}

}  // namespace

void PagedAttentionCpu(const PagedAttentionParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
