#include <algorithm>
#include <cmath>

#include "kernels/aligned_array.h"
#include "kernels/attention_unit.h"
#include "kernels/cpu_clones.h"
#include "kernels/fast_exp.h"
#include "kernels/window_scores.h"

namespace winnow {
namespace {

// Unscaled products become their softmax. Their maximum is taken before the scale, which is
// positive.
WINNOW_CPU_CLONES void Softmax(float* s, int64_t count, float scale) {
  float highest = s[0];
#pragma omp simd reduction(max : highest)
  for (int64_t j = 0; j < count; ++j) highest = s[j] > highest ? s[j] : highest;
  double sum = 0.0;
  for (int64_t begin = 0; begin < count;
       begin += 1024) {  // fp32 within a run, so that runs vectorise
    const int64_t end = begin + 1024 < count ? begin + 1024 : count;
    float run = 0.0f;
#pragma omp simd reduction(+ : run)
    for (int64_t j = begin; j < end; ++j) {
      s[j] = FastExp((s[j] - highest) * scale);
      run += s[j];
    }
    sum += run;
  }
  const auto inverse = static_cast<float>(1.0 / sum);
  for (int64_t j = 0; j < count; ++j) s[j] *= inverse;
}

WINNOW_CPU_CLONES void AddTo(float* __restrict to, const float* __restrict x, int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] += x[j];
}

WINNOW_CPU_CLONES void AddQuotient(float* __restrict to, const float* __restrict x, float divisor,
                                   int64_t count) {
  for (int64_t j = 0; j < count; ++j) to[j] += x[j] / divisor;
}

// One KV head at a time: the products of its group's window rows with all keys, [group·W][E + W],
// in fp32 (W·N floats are nothing on the CPU) with attention's inner loops; then softmax, sum over
// the window, pooling.
template <typename T, typename Packed>
class WindowScorer {
 public:
  WindowScorer(const WindowScoresParams& p, const AttentionArch<T, Packed>& arch)
      : p_(p),
        arch_(arch),
        group_(p.q_heads / p.kv_heads),
        rows_(group_ * p.window),
        depth_(RoundUp(p.head_dim, arch.pair)),
        keys_(p.window_begin + p.window),
        panels_((keys_ + kAttentionPanel - 1) / kAttentionPanel),
        stride_(panels_ * kAttentionPanel),
        queries_(int64_t{rows_} * depth_),
        products_(rows_ * stride_) {}

  void Run() {
    for (int kv_head = 0; kv_head < p_.kv_heads; ++kv_head) {
      for (int r = 0; r < rows_; ++r) {
        arch_.pack_query(static_cast<const T*>(p_.q) + (int64_t{kv_head} * rows_ + r) * p_.head_dim,
                         p_.head_dim, queries_.data() + int64_t{r} * depth_);
      }
      Multiply(kv_head);
      const float scale = 1.0f / std::sqrt(static_cast<float>(p_.head_dim));
#pragma omp parallel for schedule(static, 1)
      for (int r = 0; r < rows_; ++r) {
        Softmax(products_.data() + r * stride_, p_.window_begin + r % p_.window + 1, scale);
      }
#pragma omp parallel for
      for (int64_t begin = 0; begin < p_.window_begin; begin += kRange) {
        Pool(kv_head, begin, std::min(p_.window_begin, begin + kRange));
      }
    }
  }

 private:
  static constexpr int64_t kRange = 1024;  // scores per unit of pooling

  void Multiply(int kv_head) {
    const T* k = static_cast<const T*>(p_.k) + kv_head * p_.capacity * p_.head_dim;
#pragma omp parallel
    {
      AlignedArray<Packed> packed(int64_t{kAttentionPanel} * depth_);
#pragma omp for
      for (int64_t panel = 0; panel < panels_; ++panel) {
        const int64_t begin = panel * kAttentionPanel;
        const auto count = static_cast<int>(std::min<int64_t>(kAttentionPanel, keys_ - begin));
        arch_.pack_keys(k + begin * p_.head_dim, count, p_.head_dim, packed.data());
        for (int r = 0; r < rows_; r += kAttentionTileRows) {
          arch_.multiply(queries_.data() + int64_t{r} * depth_,
                         std::min(kAttentionTileRows, rows_ - r), depth_, packed.data(),
                         products_.data() + r * stride_ + begin, stride_);
        }
      }
    }
  }

  // Scores of positions [begin, end): sums each head's window rows, pools, and sums the group's
  // heads, all in the reference's order. Sums reach over the range's edges, with zeros outside [0,
  // E).
  void Pool(int kv_head, int64_t begin, int64_t end) {
    const int64_t count = end - begin, reach = (p_.pool_kernel - 1) / 2;
    const int64_t first = std::max<int64_t>(0, begin - reach),
                  last = std::min(p_.window_begin, end + reach);
    float* scores = p_.scores + kv_head * p_.window_begin + begin;
    std::fill_n(scores, count, 0.0f);
    AlignedArray<float> sums(count + 2 * reach), pooled(count);
    for (int g = 0; g < group_; ++g) {
      std::fill_n(sums.data(), count + 2 * reach, 0.0f);
      for (int i = 0; i < p_.window; ++i) {
        AddTo(sums.data() + (first - begin + reach),
              products_.data() + (g * p_.window + i) * stride_ + first, last - first);
      }
      std::fill_n(pooled.data(), count, 0.0f);
      for (int t = 0; t < p_.pool_kernel; ++t) AddTo(pooled.data(), sums.data() + t, count);
      AddQuotient(scores, pooled.data(), static_cast<float>(p_.pool_kernel), count);
    }
  }

  const WindowScoresParams& p_;
  const AttentionArch<T, Packed>& arch_;
  const int group_, rows_, depth_;
  const int64_t keys_, panels_, stride_;
  AlignedArray<Packed> queries_;  // [rows][depth]
  AlignedArray<float> products_;  // [rows][stride]
};

}  // namespace

void WindowScoresCpu(const WindowScoresParams& p) {
  WithAttentionArch(p.dtype,
                    [&]<typename T, typename Packed>(const AttentionArch<T, Packed>& arch) {
                      WindowScorer<T, Packed>(p, arch).Run();
                    });
}

}  // namespace winnow
