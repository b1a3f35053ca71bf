#include "kernels/attention.h"
#include "kernels/attention_arch.h"
#include "kernels/attention_row.h"
#include "kernels/matmul.h"

namespace winnow {
namespace {

// Up to this many rows the keys are read as they lie; beyond, packing them pays.
constexpr int64_t kMaxDirectRows = 4;

template <typename T>
void Direct(const AttentionParams& p) {
  const int group = p.q_heads / p.kv_heads;
#pragma omp parallel for collapse(2)
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int u = 0; u < p.kv_heads; ++u) {
      AttentionRow<T> row(group, p.head_dim);
      for (int g = 0; g < group; ++g) {
        row.SetQuery(g, static_cast<const T*>(p.q) + i * p.q_stride + int64_t{u * group + g} * p.head_dim);
      }
      const int64_t begin = u * p.capacity * p.head_dim;
      row.Add(static_cast<const T*>(p.k) + begin, static_cast<const T*>(p.v) + begin,
              p.first_visible + (p.positions != nullptr ? p.positions[i] : i));
      for (int g = 0; g < group; ++g) {
        const int h = u * group + g;
        row.Finish(g, static_cast<T*>(p.out) + (i * p.q_heads + h) * p.head_dim);
        if (p.lse != nullptr && i >= p.lse_begin) {
          p.lse[h * (p.rows - p.lse_begin) + i - p.lse_begin] = row.LogSumExp(g);
        }
      }
    }
  }
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

}  // namespace

void AttentionCpu(const AttentionParams& p) {
  static const bool has_avx512 = HasAvx512();
  static const bool has_avx512_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
  if (p.rows == 0) return;
  if (p.rows <= kMaxDirectRows) {
    p.dtype == DType::kF32 ? Direct<float>(p) : Direct<Bf16>(p);
  } else if (p.dtype == DType::kBf16 && has_avx512_bf16) {
    AttentionAvx512Bf16(p);
  } else if (p.dtype == DType::kF32 && has_avx512) {
    AttentionAvx512F32(p);
  } else {
    AttentionPortable(p);
  }
}

}  // namespace winnow
