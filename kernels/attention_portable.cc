#if defined(__x86_64__) && !defined(WINNOW_NO_CPU_CLONES)
#define WINNOW_ATTENTION_AVX2
#include <immintrin.h>
#endif

#include <cmath>

#include "kernels/attention_arch.h"
#include "kernels/cpu_clones.h"
#include "kernels/fast_exp.h"

namespace winnow {
namespace {

// Plain loops over fp32 panels, which the compiler vectorises for each level of cpu_clones.h.

constexpr int kStrip = 16;  // columns are computed in multiples of this

template <typename T>
WINNOW_CPU_CLONES void PackKeys(const T* k, int count, int head_dim, float* __restrict out) {
  for (int c = 0; c < head_dim; ++c) {
    for (int j = 0; j < kAttentionPanel; ++j) {
      out[c * kAttentionPanel + j] = j < count ? ToFloat(k[int64_t{j} * head_dim + c]) : 0.0f;
    }
  }
}

template <typename T>
WINNOW_CPU_CLONES void PackValues(const T* v, int count, int head_dim, float* __restrict out) {
  for (int column = 0; column < head_dim; column += kAttentionPanel) {
    const int columns = head_dim - column < kAttentionPanel ? head_dim - column : kAttentionPanel;
    float* to = out + int64_t{column} * kAttentionKeys;
    for (int j = 0; j < count; ++j, to += kAttentionPanel) {
      const T* row = v + int64_t{j} * head_dim + column;
      for (int c = 0; c < kAttentionPanel; ++c) to[c] = c < columns ? ToFloat(row[c]) : 0.0f;
    }
  }
}

template <typename T>
void PackQuery(const T* q, int head_dim, float* out) {
  for (int c = 0; c < head_dim; ++c) out[c] = ToFloat(q[c]);
}

template <typename T>
WINNOW_CPU_CLONES void StoreRow(const float* sum, float factor, int head_dim, T* out) {
  for (int c = 0; c < head_dim; ++c) out[c] = FromFloat<T>(sum[c] * factor);
}

// Two vectors of columns at a time: 6 rows × 2 sums, 2 panel vectors and a broadcast fill 15 of the
// 16 registers that SSE and AVX2 have. (GCC 12 does not keep the sums of plain loops in registers,
// which costs a factor of five.)
using Vector4 [[gnu::vector_size(16), gnu::may_alias]] = float;

template <bool kAdd, int R>
void MultiplyRows(const float* a, int64_t lda, int depth, const float* b, int columns, float* c,
                  int64_t stride) {
  for (int n = 0; n < columns; n += 8) {
    Vector4 sum[R][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const auto* from = reinterpret_cast<const Vector4*>(c + r * stride + n);
      sum[r][0] = kAdd ? from[0] : Vector4{};
      sum[r][1] = kAdd ? from[1] : Vector4{};
    }
    for (int k = 0; k < depth; ++k) {
      const auto* column = reinterpret_cast<const Vector4*>(b + int64_t{k} * kAttentionPanel + n);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const float x = a[r * lda + k];
        sum[r][0] += x * column[0];
        sum[r][1] += x * column[1];
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      auto* to = reinterpret_cast<Vector4*>(c + r * stride + n);
      to[0] = sum[r][0];
      to[1] = sum[r][1];
    }
  }
}

#ifdef WINNOW_ATTENTION_AVX2
template <bool kAdd, int R>
[[gnu::target("avx2,fma")]] void MultiplyRowsAvx2(const float* a, int64_t lda, int depth,
                                                  const float* b, int columns, float* c,
                                                  int64_t stride) {
  for (int n = 0; n < columns; n += 16) {
    __m256 sum[R][2];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      sum[r][0] = kAdd ? _mm256_load_ps(c + r * stride + n) : _mm256_setzero_ps();
      sum[r][1] = kAdd ? _mm256_load_ps(c + r * stride + n + 8) : _mm256_setzero_ps();
    }
    for (int k = 0; k < depth; ++k) {
      const float* row = b + int64_t{k} * kAttentionPanel + n;
      const __m256 column0 = _mm256_load_ps(row), column1 = _mm256_load_ps(row + 8);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m256 x = _mm256_broadcast_ss(a + r * lda + k);
        sum[r][0] = _mm256_fmadd_ps(x, column0, sum[r][0]);
        sum[r][1] = _mm256_fmadd_ps(x, column1, sum[r][1]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      _mm256_store_ps(c + r * stride + n, sum[r][0]);
      _mm256_store_ps(c + r * stride + n + 8, sum[r][1]);
    }
  }
}

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has;
}
#endif

// c[rows][columns] (+)= a[rows][depth] · panel b; rows ≤ R, columns a multiple of kStrip ≤ the
// panel.
template <bool kAdd, int R = kAttentionTileRows>
void Multiply(const float* a, int rows, int64_t lda, int depth, const float* b, int columns,
              float* c, int64_t stride) {
  if constexpr (R > 1) {
    if (rows < R) return Multiply<kAdd, R - 1>(a, rows, lda, depth, b, columns, c, stride);
  }
#ifdef WINNOW_ATTENTION_AVX2
  if (HasAvx2()) return MultiplyRowsAvx2<kAdd, R>(a, lda, depth, b, columns, c, stride);
#endif
  MultiplyRows<kAdd, R>(a, lda, depth, b, columns, c, stride);
}

void MultiplyPanel(const float* queries, int rows, int depth, const float* panel, float* scores,
                   int64_t stride) {
  Multiply<false>(queries, rows, depth, depth, panel, kAttentionPanel, scores, stride);
}

WINNOW_CPU_CLONES float Highest(const float* s, int count) {
  float highest = kAttentionMasked;
#pragma omp simd reduction(max : highest)
  for (int j = 0; j < count; ++j) highest = s[j] > highest ? s[j] : highest;
  return highest;
}

// s[0..width) becomes e^(ln2·(scale·s − highest)), 0 from `valid` on; sums takes the weights in,
// lane by lane.
WINNOW_CPU_CLONES void Weigh(const float* __restrict s, int valid, int width, float scale,
                             float highest, float* __restrict sums, float* __restrict weights) {
  for (int j = 0; j < width; j += kAttentionLanes) {
    for (int i = 0; i < kAttentionLanes; ++i) {
      const float weight = FastExp((s[j + i] * scale - highest) * 0.6931471805599453f);
      weights[j + i] = j + i < valid ? weight : 0.0f;
      sums[i] += weights[j + i];
    }
  }
}

WINNOW_CPU_CLONES void Scale(float* x, int count, float factor) {
  for (int i = 0; i < count; ++i) x[i] *= factor;
}

void Attend(const AttentionTile<float>& t) {
  const int used = t.valid[t.rows - 1];
  const int width = (used + kStrip - 1) / kStrip * kStrip;
  for (int at = 0; at < width; at += kAttentionPanel) {
    const int columns = width - at < kAttentionPanel ? width - at : kAttentionPanel;
    Multiply<false>(t.queries, t.rows, t.depth, t.depth, t.keys + int64_t{at} * t.depth, columns,
                    t.scores + at, kAttentionKeys);
  }
  for (int r = 0; r < t.rows; ++r) {
    const float* scores = t.scores + r * kAttentionKeys;
    float* sums = t.sums + r * kAttentionLanes;
    const float highest = Highest(scores, t.valid[r]) * t.scale;
    if (highest > t.highest[r] + kAttentionSlack) {
      const float factor = std::exp2(t.highest[r] - highest);
      Scale(t.out + int64_t{r} * t.columns, t.columns, factor);
      Scale(sums, kAttentionLanes, factor);
      t.highest[r] = highest;
    }
    Weigh(scores, t.valid[r], width, t.scale, t.highest[r], sums, t.weights + r * kAttentionKeys);
  }
  for (int at = 0; at < t.head_dim; at += kAttentionPanel) {
    const int left = (t.head_dim - at + kStrip - 1) / kStrip * kStrip;
    Multiply<true>(t.weights, t.rows, kAttentionKeys, used, t.values + int64_t{at} * kAttentionKeys,
                   left < kAttentionPanel ? left : kAttentionPanel, t.out + at, t.columns);
  }
}

}  // namespace

const AttentionArch<float, float> kAttentionPortableF32 = {
    1,     PackKeys<float>, PackValues<float>, PackQuery<float>, StoreRow<float>, MultiplyPanel,
    Attend};
const AttentionArch<Bf16, float> kAttentionPortableBf16 = {
    1, PackKeys<Bf16>, PackValues<Bf16>, PackQuery<Bf16>, StoreRow<Bf16>, MultiplyPanel, Attend};

}  // namespace winnow
