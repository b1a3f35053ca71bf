#pragma once

#include <immintrin.h>

#include "kernels/attention_arch.h"

namespace winnow {

// What the f32 and the bf16 file share. Everything is a template over Ops, a type of one file, so
// that each file gets its own copy compiled for its own instructions. Ops gives:
//   Element, Packed, Vector   in memory, in panels, and 16 (pairs of) Packed in a register
//   kPair                     depth elements per dot step
//   kExpDegree                of the polynomial for 2^x
//   Load(p), Broadcast(p), Dot(sum, a, b), StoreWeights(p, w0, w1), StoreWeights(p, w)

constexpr int kVector = 16;  // floats in a register

// 2^x for x ≤ 126; far below it gives 0. Minimax polynomials for the relative error on [−½, ½]
// (Remez): 2.7e-6 with degree 4, far below bf16's 2e-3, and 2.1e-7 (3.5 units of 2^−24) with
// degree 5.
template <typename Ops>
inline __m512 Exp2(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 y;
  if constexpr (Ops::kExpDegree == 4) {
    y = _mm512_fmadd_ps(_mm512_set1_ps(9.570102207e-3f), r, _mm512_set1_ps(5.591785908e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.402474433e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.931217909e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(9.999992847e-1f));
  } else {
    y = _mm512_fmadd_ps(_mm512_set1_ps(1.327647245e-3f), r, _mm512_set1_ps(9.675540961e-3f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(5.550713092e-2f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(2.402212024e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(6.931469440e-1f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.000000119f));
  }
  return _mm512_scalef_ps(y, n);
}

// sum[R][N] += a[R][depth] · N vectors of panel b: per depth step N loads and R broadcasts feed R·N
// dot steps.
template <typename Ops, int R, int N>
inline __attribute__((always_inline)) void DotPanel(const typename Ops::Packed* a, int64_t stride,
                                                    int depth, const typename Ops::Packed* b,
                                                    __m512 (&sum)[R][N]) {
  constexpr int kWidth = kVector * Ops::kPair;
  for (int k = 0; k < depth; k += Ops::kPair, b += kAttentionPanel * Ops::kPair) {
    typename Ops::Vector column[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) column[n] = Ops::Load(b + n * kWidth);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const auto x = Ops::Broadcast(a + r * stride + k);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] = Ops::Dot(sum[r][n], x, column[n]);
    }
  }
}

// c[R][16·N] = a · b; peaks[r] takes each row's maximum in, lane by lane.
template <typename Ops, int R, int N>
void ScorePanel(const typename Ops::Packed* a, int depth, const typename Ops::Packed* b, float* c,
                int64_t stride, float (*peaks)[kVector]) {
  __m512 sum[R][N];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[r][n] = _mm512_setzero_ps();
  }
  DotPanel<Ops, R, N>(a, depth, depth, b, sum);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    __m512 peak = _mm512_load_ps(peaks[r]);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      _mm512_storeu_ps(c + r * stride + kVector * n, sum[r][n]);
      peak = _mm512_max_ps(peak, sum[r][n]);
    }
    _mm512_store_ps(peaks[r], peak);
  }
}

// c[R][16·N] += a · b.
template <typename Ops, int R, int N>
void AddPanel(const typename Ops::Packed* a, int64_t lda, int depth, const typename Ops::Packed* b,
              float* c, int64_t stride) {
  __m512 sum[R][N];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[r][n] = _mm512_load_ps(c + r * stride + kVector * n);
  }
  DotPanel<Ops, R, N>(a, lda, depth, b, sum);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) _mm512_store_ps(c + r * stride + kVector * n, sum[r][n]);
  }
}

// f.template operator()<n>() for the n ≤ kMax asked for, so that the sums of every size stay in
// registers.
template <int kMax, typename F>
inline __attribute__((always_inline)) void WithConstant(int n, F&& f) {
  if (n == kMax) {
    f.template operator()<kMax>();
  } else if constexpr (kMax > 1) {
    WithConstant<kMax - 1>(n, f);
  }
}

template <typename Ops, int R>
class TileStep {
  using Tile = AttentionTile<typename Ops::Packed>;

 public:
  explicit TileStep(const Tile& tile)
      : t_(tile), used_(tile.valid[R - 1]), vectors_((used_ + kVector - 1) / kVector) {}

  void Run() {
    Score();
    if (t_.valid[0] < vectors_ * kVector) Mask();
    const __m512 scale = _mm512_set1_ps(t_.scale);
    for (int r = 0; r < R; ++r) {
      // Rarely true after the first blocks, so that the weights below need not wait for the
      // maximum.
      const __m512 limit = _mm512_set1_ps(t_.highest[r] + kAttentionSlack);
      const __m512 peak = _mm512_mul_ps(_mm512_load_ps(peaks_[r]), scale);
      if (_mm512_cmp_ps_mask(peak, limit, _CMP_GT_OQ) != 0) Raise(r, _mm512_reduce_max_ps(peak));
    }
    for (int r = 0; r < R; ++r) Weigh(r, scale);
    Accumulate();
  }

 private:
  void Score() {
    for (int r = 0; r < R; ++r) _mm512_store_ps(peaks_[r], _mm512_set1_ps(kAttentionMasked));
    for (int at = 0; at < vectors_; at += kPanelVectors) {
      const int left = vectors_ - at;
      WithConstant<kPanelVectors>(left < kPanelVectors ? left : kPanelVectors, [&]<int N>() {
        ScorePanel<Ops, R, N>(t_.queries, t_.depth, t_.keys + int64_t{at} * kVector * t_.depth,
                              t_.scores + at * kVector, kAttentionKeys, peaks_);
      });
    }
  }

  // Hides what rows do not see, and takes it out of the peaks.
  void Mask() {
    const __m512 masked = _mm512_set1_ps(kAttentionMasked);
    for (int r = 0; r < R; ++r) {
      __m512 peak = masked;
      for (int v = 0; v < vectors_; ++v) {
        float* at = t_.scores + r * kAttentionKeys + v * kVector;
        const int seen = t_.valid[r] - v * kVector;
        __m512 x = _mm512_load_ps(at);
        if (seen < kVector) {
          x = _mm512_mask_mov_ps(masked, seen <= 0 ? 0 : static_cast<__mmask16>((1u << seen) - 1),
                                 x);
          _mm512_store_ps(at, x);
        }
        peak = _mm512_max_ps(peak, x);
      }
      _mm512_store_ps(peaks_[r], peak);
    }
  }

  // Moves row r's maximum and rescales what it has accumulated.
  void Raise(int r, float highest) {
    const __m512 factor = Exp2<Ops>(_mm512_set1_ps(t_.highest[r] - highest));
    t_.highest[r] = highest;
    float* sums = t_.sums + r * kAttentionLanes;
    _mm512_store_ps(sums, _mm512_mul_ps(_mm512_load_ps(sums), factor));
    float* out = t_.out + int64_t{r} * t_.columns;
    for (int c = 0; c < t_.columns; c += kVector) {
      _mm512_store_ps(out + c, _mm512_mul_ps(_mm512_load_ps(out + c), factor));
    }
  }

  // Row r's scores become weights 2^(scale·s − maximum).
  void Weigh(int r, __m512 scale) {
    const __m512 highest = _mm512_set1_ps(t_.highest[r]);
    const float* s = t_.scores + r * kAttentionKeys;
    auto* w = t_.weights + r * kAttentionKeys;
    __m512 sum0 = _mm512_load_ps(t_.sums + r * kAttentionLanes), sum1 = _mm512_setzero_ps();
    int v = 0;
    for (; v + 2 <= vectors_; v += 2, s += 2 * kVector, w += 2 * kVector) {
      const __m512 w0 = Exp2<Ops>(_mm512_fmsub_ps(_mm512_load_ps(s), scale, highest));
      const __m512 w1 = Exp2<Ops>(_mm512_fmsub_ps(_mm512_load_ps(s + kVector), scale, highest));
      sum0 = _mm512_add_ps(sum0, w0);
      sum1 = _mm512_add_ps(sum1, w1);
      Ops::StoreWeights(w, w0, w1);
    }
    if (v < vectors_) {
      const __m512 w0 = Exp2<Ops>(_mm512_fmsub_ps(_mm512_load_ps(s), scale, highest));
      sum0 = _mm512_add_ps(sum0, w0);
      Ops::StoreWeights(w, w0);
    }
    _mm512_store_ps(t_.sums + r * kAttentionLanes, _mm512_add_ps(sum0, sum1));
  }

  void Accumulate() {
    const int depth = (used_ + Ops::kPair - 1) / Ops::kPair * Ops::kPair;
    const int column_vectors = (t_.head_dim + kVector - 1) / kVector;
    for (int at = 0; at < column_vectors; at += kPanelVectors) {
      const int left = column_vectors - at;
      WithConstant<kPanelVectors>(left < kPanelVectors ? left : kPanelVectors, [&]<int N>() {
        AddPanel<Ops, R, N>(t_.weights, kAttentionKeys, depth,
                            t_.values + int64_t{at} * kVector * kAttentionKeys,
                            t_.out + at * kVector, t_.columns);
      });
    }
  }

  static constexpr int kPanelVectors = kAttentionPanel / kVector;
  const Tile& t_;
  const int used_;     // keys that the last row sees
  const int vectors_;  // that hold them
  alignas(64) float peaks_[R][kVector];
};

template <typename Ops>
void Attend(const AttentionTile<typename Ops::Packed>& tile) {
  WithConstant<kAttentionTileRows>(tile.rows, [&]<int R>() { TileStep<Ops, R>(tile).Run(); });
}

template <typename Ops>
void MultiplyPanel(const typename Ops::Packed* queries, int rows, int depth,
                   const typename Ops::Packed* panel, float* scores, int64_t stride) {
  alignas(64) float peaks[kAttentionTileRows][kVector] = {};
  WithConstant<kAttentionTileRows>(rows, [&]<int R>() {
    ScorePanel<Ops, R, kAttentionPanel / kVector>(queries, depth, panel, scores, stride, peaks);
  });
}

// Transposes 16 rows of 16 32-bit elements in registers.
static inline void Transpose16x16(__m512i (&row)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
  __m512i u[16];  // u[4g + c]: column c of each 128-bit lane, rows 4g…4g+3
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    u[4 * g + 0] = _mm512_unpacklo_epi64(t[4 * g], t[4 * g + 2]);
    u[4 * g + 1] = _mm512_unpackhi_epi64(t[4 * g], t[4 * g + 2]);
    u[4 * g + 2] = _mm512_unpacklo_epi64(t[4 * g + 1], t[4 * g + 3]);
    u[4 * g + 3] = _mm512_unpackhi_epi64(t[4 * g + 1], t[4 * g + 3]);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i a = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88);  // lanes 0, 2 of row groups 0, 1
    const __m512i b = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xDD);  // lanes 1, 3
    const __m512i d =
        _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);  // the same of row groups 2, 3
    const __m512i e = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xDD);
    row[c] = _mm512_shuffle_i32x4(a, d, 0x88);
    row[8 + c] = _mm512_shuffle_i32x4(a, d, 0xDD);
    row[4 + c] = _mm512_shuffle_i32x4(b, e, 0x88);
    row[12 + c] = _mm512_shuffle_i32x4(b, e, 0xDD);
  }
}

}  // namespace winnow
