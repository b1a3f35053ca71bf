#include <algorithm>
#include <cmath>

#include "kernels/attention_arch.h"
#include "kernels/attention_avx512.h"
#include "kernels/attention_blocked.h"

namespace winnow {
namespace {

struct Avx512F32 {
  using T = float;
  using Packed = float;
  static constexpr int kPair = 1;

  static void PackKeys(const float* k, int count, int head_dim, float* out) {
    for (int base = 0; base < kAttentionPanel; base += 16) {
      for (int c = 0; c < head_dim; c += 16) {
        const int columns = std::min(16, head_dim - c);
        const auto mask = static_cast<__mmask16>((1u << columns) - 1);
        __m512i row[16];
        for (int i = 0; i < 16; ++i) {
          row[i] = base + i < count ? _mm512_maskz_loadu_epi32(mask, k + (base + i) * head_dim + c)
                                    : _mm512_setzero_si512();
        }
        Transpose16x16(row);
        for (int i = 0; i < columns; ++i) _mm512_storeu_si512(out + (c + i) * kAttentionPanel + base, row[i]);
      }
    }
  }
  static void PackValues(const float* v, int count, int head_dim, int columns, float* out) {
    for (int j = 0; j < kAttentionBlockKeys; ++j, out += kAttentionPanel) {
      std::memset(out, 0, kAttentionPanel * sizeof(float));
      if (j < count) std::memcpy(out, v + int64_t{j} * head_dim, columns * sizeof(float));
    }
  }
  static void PackRow(const float* x, int head_dim, float* out) { std::memcpy(out, x, head_dim * sizeof(float)); }

  // 6 × 4 accumulators, 4 panel vectors and a broadcast fill 29 of 32 registers.
  template <int R>
  static void Multiply(const float* a, int lda, int depth, const float* b, float* c, int ldc, bool accumulate) {
    __m512 sum[R][4];
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < 4; ++n) {
        sum[r][n] = accumulate ? _mm512_loadu_ps(c + r * ldc + 16 * n) : _mm512_setzero_ps();
      }
    }
    for (int k = 0; k < depth; ++k, b += kAttentionPanel) {
      const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);
      const __m512 b2 = _mm512_loadu_ps(b + 32), b3 = _mm512_loadu_ps(b + 48);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 x = _mm512_set1_ps(a[r * lda + k]);
        sum[r][0] = _mm512_fmadd_ps(x, b0, sum[r][0]);
        sum[r][1] = _mm512_fmadd_ps(x, b1, sum[r][1]);
        sum[r][2] = _mm512_fmadd_ps(x, b2, sum[r][2]);
        sum[r][3] = _mm512_fmadd_ps(x, b3, sum[r][3]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < 4; ++n) _mm512_storeu_ps(c + r * ldc + 16 * n, sum[r][n]);
    }
  }

  static float Softmax(float* s, int valid, int width, float scale, float* m, float* l, float* weights) {
    return SoftmaxAvx512(s, valid, width, scale, m, l,
                         [&](int at, __m512 p) { _mm512_storeu_ps(weights + at, p); });
  }
};

}  // namespace

void AttentionAvx512F32(const AttentionParams& p) { BlockedAttention<Avx512F32>(p).Run(); }

}  // namespace winnow
