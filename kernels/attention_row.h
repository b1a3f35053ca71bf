#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/fast_exp.h"
#include "kernels/types.h"

namespace winnow {

// Attention of the `group` queries that share one KV head against runs of cached entries, with a running softmax: each entry
// is read once for the whole group. For single rows, where packing keys would cost more than it gives.
template <typename T>
class AttentionRow {
 public:
  AttentionRow(int group, int head_dim)
      : group_(group), head_dim_(head_dim), q_(group * head_dim), out_(group * head_dim, 0.0f),
        highest_(group, -1e30f), sum_(group, 0.0f), scores_(kRun) {}

  // Query `g` of the group: [head_dim].
  void SetQuery(int g, const T* q) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
    for (int c = 0; c < head_dim_; ++c) q_[g * head_dim_ + c] = ToFloat(q[c]) * scale;
  }

  // `count` entries: k and v [count][head_dim].
  void Add(const T* k, const T* v, int64_t count) {
    for (int64_t begin = 0; begin < count; begin += kRun) {
      const auto run = static_cast<int>(std::min<int64_t>(kRun, count - begin));
      for (int g = 0; g < group_; ++g) AddRun(g, k + begin * head_dim_, v + begin * head_dim_, run);
    }
  }

  void Finish(int g, T* out) const {
    const float inverse = 1.0f / sum_[g];
    for (int c = 0; c < head_dim_; ++c) out[c] = FromFloat<T>(out_[g * head_dim_ + c] * inverse);
  }
  float LogSumExp(int g) const { return highest_[g] + std::log(sum_[g]); }

 private:
  static constexpr int kRun = 64;    // entries per softmax step
  static constexpr int kLanes = 16;  // partial sums of a dot product

  void AddRun(int g, const T* k, const T* v, int run) {
    const float* q = q_.data() + g * head_dim_;
    float highest = highest_[g];
    for (int j = 0; j < run; ++j) {
      scores_[j] = Dot(q, k + j * head_dim_);
      highest = std::max(highest, scores_[j]);
    }
    float* out = out_.data() + g * head_dim_;
    const float factor = std::exp(highest_[g] - highest);
    for (int c = 0; c < head_dim_; ++c) out[c] *= factor;
    float sum = sum_[g] * factor;
    for (int j = 0; j < run; ++j) {
      const float weight = FastExp(scores_[j] - highest);
      sum += weight;
      const T* row = v + j * head_dim_;
      for (int c = 0; c < head_dim_; ++c) out[c] += weight * ToFloat(row[c]);
    }
    highest_[g] = highest;
    sum_[g] = sum;
  }

  float Dot(const float* q, const T* k) const {
    float lanes[kLanes] = {};
    int c = 0;
    for (; c + kLanes <= head_dim_; c += kLanes) {
      for (int i = 0; i < kLanes; ++i) lanes[i] += q[c + i] * ToFloat(k[c + i]);
    }
    float sum = 0.0f;
    for (; c < head_dim_; ++c) sum += q[c] * ToFloat(k[c]);
    for (float lane : lanes) sum += lane;
    return sum;
  }

  const int group_, head_dim_;
  std::vector<float> q_, out_, highest_, sum_, scores_;
};

}  // namespace winnow
