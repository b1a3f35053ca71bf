#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention.h"

namespace winnow {
namespace {

template <typename T>
void RunHead(const AttentionParams& p, int64_t i, int h) {
  const int kv_head = h / (p.q_heads / p.kv_heads);
  const int64_t visible = p.first_visible + (p.positions != nullptr ? p.positions[i] : i);
  const T* q = static_cast<const T*>(p.q) + i * p.q_stride + int64_t{h} * p.head_dim;
  const T* k = static_cast<const T*>(p.k) + kv_head * p.capacity * p.head_dim;
  const T* v = static_cast<const T*>(p.v) + kv_head * p.capacity * p.head_dim;
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
  T* out = static_cast<T*>(p.out) + (i * p.q_heads + h) * p.head_dim;
  for (int c = 0; c < p.head_dim; ++c) {
    float value = 0.0f;
    for (int64_t j = 0; j < visible; ++j) value += weight[j] * ToFloat(v[j * p.head_dim + c]);
    out[c] = FromFloat<T>(value / sum);
  }
  if (p.lse != nullptr && i >= p.lse_begin) {
    p.lse[h * (p.rows - p.lse_begin) + i - p.lse_begin] = highest + std::log(sum);
  }
}

template <typename T>
void Run(const AttentionParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    for (int h = 0; h < p.q_heads; ++h) RunHead<T>(p, i, h);
  }
}

}  // namespace

void AttentionRef(const AttentionParams& p) {
  p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p);
}

}  // namespace winnow
