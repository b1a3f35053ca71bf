#include <algorithm>
#include <cmath>

#include "kernels/attention_arch.h"
#include "kernels/attention_avx512.h"
#include "kernels/attention_blocked.h"

namespace winnow {
namespace {

// vdpbf16ps multiplies pairs of neighbours in depth, so panels and rows interleave two depth elements.
struct Avx512Bf16 {
  using T = Bf16;
  using Packed = Bf16;
  static constexpr int kPair = 2;

  static void PackKeys(const Bf16* k, int count, int head_dim, Bf16* out) {
    for (int base = 0; base < kAttentionPanel; base += 16) {
      for (int c = 0; c < head_dim; c += 32) {  // 16 pairs
        const int columns = std::min(32, head_dim - c);
        const auto mask = static_cast<__mmask32>((uint64_t{1} << columns) - 1);
        __m512i row[16];
        for (int i = 0; i < 16; ++i) {
          row[i] = base + i < count ? _mm512_maskz_loadu_epi16(mask, k + (base + i) * head_dim + c)
                                    : _mm512_setzero_si512();
        }
        Transpose16x16(row);
        for (int i = 0; 2 * i < columns; ++i) {
          _mm512_storeu_si512(out + ((c / 2 + i) * kAttentionPanel + base) * 2, row[i]);
        }
      }
    }
  }
  static void PackValues(const Bf16* v, int count, int head_dim, int columns, Bf16* out) {
    for (int j = 0; j < kAttentionBlockKeys; j += 2, out += 2 * kAttentionPanel) {
      const Bf16* low = v + int64_t{j} * head_dim;
      const Bf16* high = low + head_dim;
      for (int c = 0; c < kAttentionPanel; c += 16) {
        const auto mask = static_cast<__mmask16>((1u << std::clamp(columns - c, 0, 16)) - 1);
        const __m256i a = j < count ? _mm256_maskz_loadu_epi16(mask, low + c) : _mm256_setzero_si256();
        const __m256i b = j + 1 < count ? _mm256_maskz_loadu_epi16(mask, high + c) : _mm256_setzero_si256();
        const __m512i pairs = _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                                              _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
        _mm512_storeu_si512(out + 2 * c, pairs);
      }
    }
  }
  static void PackRow(const Bf16* x, int head_dim, Bf16* out) {
    std::memcpy(out, x, head_dim * sizeof(Bf16));
    if (head_dim % 2 != 0) out[head_dim] = Bf16{0};
  }

  static __m512 Dot(__m512 sum, __m512i a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

  template <int R>
  static void Multiply(const Bf16* a, int lda, int depth, const Bf16* b, float* c, int ldc, bool accumulate) {
    __m512 sum[R][4];
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < 4; ++n) {
        sum[r][n] = accumulate ? _mm512_loadu_ps(c + r * ldc + 16 * n) : _mm512_setzero_ps();
      }
    }
    for (int k = 0; k < depth; k += 2, b += 2 * kAttentionPanel) {
      const __m512i b0 = _mm512_loadu_si512(b), b1 = _mm512_loadu_si512(b + 32);
      const __m512i b2 = _mm512_loadu_si512(b + 64), b3 = _mm512_loadu_si512(b + 96);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        int32_t pair;
        std::memcpy(&pair, a + r * lda + k, 4);
        const __m512i x = _mm512_set1_epi32(pair);
        sum[r][0] = Dot(sum[r][0], x, b0);
        sum[r][1] = Dot(sum[r][1], x, b1);
        sum[r][2] = Dot(sum[r][2], x, b2);
        sum[r][3] = Dot(sum[r][3], x, b3);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < 4; ++n) _mm512_storeu_ps(c + r * ldc + 16 * n, sum[r][n]);
    }
  }

  static float Softmax(float* s, int valid, int width, float scale, float* m, float* l, Bf16* weights) {
    return SoftmaxAvx512(s, valid, width, scale, m, l, [&](int at, __m512 p) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + at), (__m256i)_mm512_cvtneps_pbh(p));
    });
  }
};

}  // namespace

void AttentionAvx512Bf16(const AttentionParams& p) { BlockedAttention<Avx512Bf16>(p).Run(); }

}  // namespace winnow
