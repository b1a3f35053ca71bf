#include "kernels/attention_arch.h"
#include "kernels/attention_avx512.h"

namespace winnow {
namespace {

// vdpbf16ps multiplies pairs of neighbours in depth, so panels and rows interleave two depth
// elements.
struct Bf16Ops {
  using Element = Bf16;
  using Packed = Bf16;
  using Vector = __m512i;
  static constexpr int kPair = 2;
  static constexpr int kExpDegree = 4;

  static Vector Load(const Bf16* p) { return _mm512_load_si512(p); }
  static Vector Broadcast(const Bf16* p) {
    int32_t pair;
    std::memcpy(&pair, p, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static __m512 Dot(__m512 sum, Vector a, Vector b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
  static void StoreWeights(Bf16* p, __m512 w0, __m512 w1) {
    _mm512_store_si512(p, (__m512i)_mm512_cvtne2ps_pbh(w1, w0));
  }
  static void StoreWeights(Bf16* p, __m512 w) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(w));
  }
};

// The first `count` of 16 or 32 lanes.
__mmask32 First(int count) { return count <= 0 ? 0 : count >= 32 ? ~0u : (1u << count) - 1; }

void PackKeys(const Bf16* k, int count, int head_dim, Bf16* out) {
  for (int base = 0; base < kAttentionPanel; base += 16) {
    for (int c = 0; c < head_dim; c += 32) {  // 16 pairs
      const int columns = head_dim - c;
      __m512i row[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        row[i] = _mm512_maskz_loadu_epi16(base + i < count ? First(columns) : 0,
                                          k + int64_t{base + i} * head_dim + c);
      }
      Transpose16x16(row);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (2 * i < columns)
          _mm512_store_si512(out + ((c / 2 + i) * kAttentionPanel + base) * 2, row[i]);
      }
    }
  }
}

void PackValues(const Bf16* v, int count, int head_dim, Bf16* out) {
  for (int column = 0; column < head_dim; column += kAttentionPanel) {
    Bf16* pairs = out + int64_t{column} * kAttentionKeys;
    for (int j = 0; j < count; j += 2, pairs += 2 * kAttentionPanel) {
      const Bf16* low = v + int64_t{j} * head_dim + column;
      for (int c = 0; c < kAttentionPanel; c += 16) {
        const auto columns = static_cast<__mmask16>(First(head_dim - column - c));
        const __m256i a = _mm256_maskz_loadu_epi16(columns, low + c);
        const __m256i b = _mm256_maskz_loadu_epi16(j + 1 < count ? columns : 0, low + head_dim + c);
        _mm512_store_si512(pairs + 2 * c,
                           _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16)));
      }
    }
  }
}

void PackQuery(const Bf16* q, int head_dim, Bf16* out) {
  std::memcpy(out, q, head_dim * sizeof(Bf16));
  if (head_dim % 2 != 0) out[head_dim] = Bf16{0};
}

void StoreRow(const float* sum, float factor, int head_dim, Bf16* out) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int c = 0; c < head_dim; c += kVector) {
    const auto columns = static_cast<__mmask16>(First(head_dim - c));
    _mm256_mask_storeu_epi16(
        out + c, columns, (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_load_ps(sum + c), f)));
  }
}

}  // namespace

const AttentionArch<Bf16, Bf16> kAttentionAvx512Bf16 = {
    Bf16Ops::kPair,         PackKeys,       PackValues, PackQuery, StoreRow,
    MultiplyPanel<Bf16Ops>, Attend<Bf16Ops>};

}  // namespace winnow
