#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/window_scores.h"

namespace winnow {
namespace {

// Step 1 for one head and window row: softmax over the row's visible keys, added to a[j] for j < E
// (step 2).
template <typename T>
void AddRow(const WindowScoresParams& p, int h, int i, std::vector<float>& a) {
  const T* q = static_cast<const T*>(p.q) + (int64_t{h} * p.window + i) * p.head_dim;
  const T* k =
      static_cast<const T*>(p.k) + (h / (p.q_heads / p.kv_heads)) * p.capacity * p.head_dim;
  const int64_t visible = p.window_begin + i + 1;
  std::vector<float> weight(visible);
  float highest = -INFINITY;
  for (int64_t j = 0; j < visible; ++j) {
    float dot = 0.0f;
    for (int c = 0; c < p.head_dim; ++c) dot += ToFloat(q[c]) * ToFloat(k[j * p.head_dim + c]);
    weight[j] = dot / std::sqrt(static_cast<float>(p.head_dim));
    highest = std::max(highest, weight[j]);
  }
  float sum = 0.0f;
  for (float& w : weight) sum += (w = std::exp(w - highest));
  for (int64_t j = 0; j < p.window_begin; ++j) a[j] += weight[j] / sum;
}

template <typename T>
void Run(const WindowScoresParams& p) {
  const int64_t reach = (p.pool_kernel - 1) / 2;
  std::fill(p.scores, p.scores + p.kv_heads * p.window_begin, 0.0f);
  for (int h = 0; h < p.q_heads; ++h) {
    std::vector<float> a(p.window_begin, 0.0f);
    for (int i = 0; i < p.window; ++i) AddRow<T>(p, h, i, a);
    float* scores = p.scores + (h / (p.q_heads / p.kv_heads)) * p.window_begin;
    for (int64_t j = 0; j < p.window_begin; ++j) {
      float sum = 0.0f;
      for (int64_t t = std::max<int64_t>(0, j - reach);
           t <= std::min(p.window_begin - 1, j + reach); ++t)
        sum += a[t];
      scores[j] += sum / static_cast<float>(p.pool_kernel);
    }
  }
}

}  // namespace

void WindowScoresRef(const WindowScoresParams& p) {
  p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p);
}

void GatherWindowRef(const GatherWindowParams& p) {
  const int64_t element = ElementSize(p.dtype);
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int h = 0; h < p.q_heads; ++h) {
      std::memcpy(
          static_cast<char*>(p.out) +
              (int64_t{h} * p.window + p.window_row + i) * p.head_dim * element,
          static_cast<const char*>(p.q) + (i * p.q_stride + int64_t{h} * p.head_dim) * element,
          p.head_dim * element);
    }
  }
}

// A copy of a few rows.
void GatherWindowCpu(const GatherWindowParams& p) { GatherWindowRef(p); }

}  // namespace winnow
