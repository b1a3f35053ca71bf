#include <algorithm>
#include <cmath>

#include "kernels/attention_arch.h"
#include "kernels/attention_blocked.h"
#include "kernels/fast_exp.h"

namespace winnow {
namespace {

// Plain loops over fp32 panels, which the compiler vectorises for whatever it compiles for.
template <typename Element>
struct Portable {
  using T = Element;
  using Packed = float;
  static constexpr int kPair = 1;

  static void PackKeys(const T* k, int count, int head_dim, float* out) {
    for (int c = 0; c < head_dim; ++c) {
      for (int j = 0; j < kAttentionPanel; ++j) {
        out[c * kAttentionPanel + j] = j < count ? ToFloat(k[int64_t{j} * head_dim + c]) : 0.0f;
      }
    }
  }
  static void PackValues(const T* v, int count, int head_dim, int columns, float* out) {
    for (int j = 0; j < kAttentionBlockKeys; ++j) {
      for (int c = 0; c < kAttentionPanel; ++c) {
        out[j * kAttentionPanel + c] = j < count && c < columns ? ToFloat(v[int64_t{j} * head_dim + c]) : 0.0f;
      }
    }
  }
  static void PackRow(const T* x, int head_dim, float* out) {
    for (int c = 0; c < head_dim; ++c) out[c] = ToFloat(x[c]);
  }

  template <int R>
  static void Multiply(const float* a, int lda, int depth, const float* b, float* c, int ldc, bool accumulate) {
    constexpr int kStrip = 16;  // columns at a time, so that the sums stay in registers
    for (int n = 0; n < kAttentionPanel; n += kStrip) {
      float sum[R][kStrip];
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < kStrip; ++i) sum[r][i] = accumulate ? c[r * ldc + n + i] : 0.0f;
      }
      for (int k = 0; k < depth; ++k) {
        const float* row = b + k * kAttentionPanel + n;
        for (int r = 0; r < R; ++r) {
          for (int i = 0; i < kStrip; ++i) sum[r][i] += a[r * lda + k] * row[i];
        }
      }
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < kStrip; ++i) c[r * ldc + n + i] = sum[r][i];
      }
    }
  }

  static float Softmax(float* s, int valid, int width, float scale, float* m, float* l, float* weights) {
    float highest = -1e30f;
    for (int j = 0; j < valid; ++j) highest = std::max(highest, s[j] *= scale);
    const float new_m = std::max(*m, highest);
    float sum = 0.0f;
    for (int j = 0; j < valid; ++j) {
      weights[j] = FastExp((s[j] - new_m) * 0.6931471805599453f);
      sum += weights[j];
    }
    for (int j = valid; j < width; ++j) weights[j] = 0.0f;
    const float factor = new_m == *m ? 1.0f : std::exp2(*m - new_m);
    *m = new_m;
    *l = *l * factor + sum;
    return factor;
  }
};

}  // namespace

void AttentionPortable(const AttentionParams& p) {
  p.dtype == DType::kF32 ? BlockedAttention<Portable<float>>(p).Run() : BlockedAttention<Portable<Bf16>>(p).Run();
}

}  // namespace winnow
