#include "kernels/attention_arch.h"
#include "kernels/attention_avx512.h"

namespace winnow {
namespace {

struct F32Ops {
  using Element = float;
  using Packed = float;
  using Vector = __m512;
  static constexpr int kPair = 1;
  static constexpr int kExpDegree = 5;

  static Vector Load(const float* p) { return _mm512_load_ps(p); }
  static Vector Broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static __m512 Dot(__m512 sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
  static void StoreWeights(float* p, __m512 w0, __m512 w1) {
    _mm512_store_ps(p, w0);
    _mm512_store_ps(p + kVector, w1);
  }
  static void StoreWeights(float* p, __m512 w) { _mm512_store_ps(p, w); }
};

// The first `count` of 16 lanes.
__mmask16 First(int count) {
  return static_cast<__mmask16>(count <= 0 ? 0 : count >= 16 ? 0xFFFF : (1 << count) - 1);
}

void PackKeys(const float* k, int count, int head_dim, float* out) {
  for (int base = 0; base < kAttentionPanel; base += 16) {
    for (int c = 0; c < head_dim; c += 16) {
      const int columns = head_dim - c;
      __m512i row[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        row[i] = _mm512_maskz_loadu_epi32(base + i < count ? First(columns) : 0,
                                          k + int64_t{base + i} * head_dim + c);
      }
      Transpose16x16(row);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (i < columns) _mm512_store_si512(out + (c + i) * kAttentionPanel + base, row[i]);
      }
    }
  }
}

void PackValues(const float* v, int count, int head_dim, float* out) {
  for (int column = 0; column < head_dim; column += kAttentionPanel) {
    float* to = out + int64_t{column} * kAttentionKeys;
    for (int j = 0; j < count; ++j, to += kAttentionPanel) {
      const float* row = v + int64_t{j} * head_dim + column;
      for (int c = 0; c < kAttentionPanel; c += 16) {
        _mm512_store_ps(to + c, _mm512_maskz_loadu_ps(First(head_dim - column - c), row + c));
      }
    }
  }
}

void PackQuery(const float* q, int head_dim, float* out) {
  std::memcpy(out, q, head_dim * sizeof(float));
}

void StoreRow(const float* sum, float factor, int head_dim, float* out) {
  const __m512 f = _mm512_set1_ps(factor);
  for (int c = 0; c < head_dim; c += kVector) {
    _mm512_mask_storeu_ps(out + c, First(head_dim - c), _mm512_mul_ps(_mm512_load_ps(sum + c), f));
  }
}

}  // namespace

const AttentionArch<float, float> kAttentionAvx512F32 = {
    F32Ops::kPair,         PackKeys,      PackValues, PackQuery, StoreRow,
    MultiplyPanel<F32Ops>, Attend<F32Ops>};

}  // namespace winnow
