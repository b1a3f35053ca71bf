#pragma once

#include <immintrin.h>

namespace winnow {

// 2^x for x ≤ 0, to about 1e-7 relative; very negative x gives 0. Degree-5 minimax polynomial on [−½, ½].
inline __m512 Exp2(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 y = _mm512_set1_ps(1.8775767e-3f);
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(8.9893397e-3f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.5826318e-2f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.4015361e-1f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.9315308e-1f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(9.9999994e-1f));
  return _mm512_scalef_ps(y, n);
}

// The softmax step that both AVX-512 variants share; `store(at, p)` keeps 16 weights. See attention_blocked.h.
template <typename StoreWeights>
float SoftmaxAvx512(float* s, int valid, int width, float scale, float* m, float* l, StoreWeights store) {
  const __m512 vscale = _mm512_set1_ps(scale);
  const __m512 masked = _mm512_set1_ps(-1e30f);
  __m512 highest = masked;
  for (int j = 0; j < width; j += 16) {
    __m512 x = _mm512_mul_ps(_mm512_loadu_ps(s + j), vscale);
    if (j + 16 > valid) {
      const int left = valid - j;
      x = _mm512_mask_mov_ps(masked, left <= 0 ? 0 : static_cast<__mmask16>((1u << left) - 1), x);
    }
    _mm512_storeu_ps(s + j, x);
    highest = _mm512_max_ps(highest, x);
  }
  const float old_m = *m;
  const float new_m = std::max(old_m, _mm512_reduce_max_ps(highest));
  const __m512 vm = _mm512_set1_ps(new_m);
  __m512 sum = _mm512_setzero_ps();
  for (int j = 0; j < width; j += 16) {
    const __m512 p = Exp2(_mm512_sub_ps(_mm512_loadu_ps(s + j), vm));
    sum = _mm512_add_ps(sum, p);
    store(j, p);
  }
  const float factor = new_m == old_m ? 1.0f : std::exp2(old_m - new_m);
  *m = new_m;
  *l = *l * factor + _mm512_reduce_add_ps(sum);
  return factor;
}

// Transposes 16 rows of 16 32-bit elements in registers.
inline void Transpose16x16(__m512i (&row)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
  __m512i u[16];  // u[4g + c]: column c of each 128-bit lane, rows 4g…4g+3
  for (int g = 0; g < 4; ++g) {
    u[4 * g + 0] = _mm512_unpacklo_epi64(t[4 * g], t[4 * g + 2]);
    u[4 * g + 1] = _mm512_unpackhi_epi64(t[4 * g], t[4 * g + 2]);
    u[4 * g + 2] = _mm512_unpacklo_epi64(t[4 * g + 1], t[4 * g + 3]);
    u[4 * g + 3] = _mm512_unpackhi_epi64(t[4 * g + 1], t[4 * g + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    const __m512i a = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88);       // lanes 0, 2 of row groups 0, 1
    const __m512i b = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xDD);       // lanes 1, 3
    const __m512i d = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);  // the same of row groups 2, 3
    const __m512i e = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xDD);
    row[c] = _mm512_shuffle_i32x4(a, d, 0x88);
    row[8 + c] = _mm512_shuffle_i32x4(a, d, 0xDD);
    row[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
    row[12 + c] = _mm512_shuffle_i32x4(b, e, 0xDD);
  }
}

}  // namespace winnow
