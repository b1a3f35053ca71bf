#include <cmath>

#include "kernels/rms_norm.h"

namespace winnow {
namespace {

// Sixteen partial sums, so that the compiler vectorises the reduction without reordering it freely.
constexpr int kLanes = 16;

template <typename T>
float SumOfSquares(const T* x, int hidden) {
  float lanes[kLanes] = {};
  int c = 0;
  for (; c + kLanes <= hidden; c += kLanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i] += ToFloat(x[c + i]) * ToFloat(x[c + i]);
  }
  float sum = 0.0f;
  for (; c < hidden; ++c) sum += ToFloat(x[c]) * ToFloat(x[c]);
  for (float lane : lanes) sum += lane;
  return sum;
}

template <typename T>
void RunRow(const RmsNormParams& p, int64_t i) {
  T* __restrict x = static_cast<T*>(p.x) + i * p.hidden;
  if (p.delta != nullptr) {
    const T* __restrict delta = static_cast<const T*>(p.delta) + i * p.hidden;
    for (int c = 0; c < p.hidden; ++c) x[c] = FromFloat<T>(ToFloat(x[c]) + ToFloat(delta[c]));
  }
  if (p.out == nullptr) return;
  const float scale = 1.0f / std::sqrt(SumOfSquares(x, p.hidden) / p.hidden + p.eps);
  const T* __restrict weight = static_cast<const T*>(p.weight);
  T* __restrict out = static_cast<T*>(p.out) + i * p.hidden;
  for (int c = 0; c < p.hidden; ++c) out[c] = FromFloat<T>(ToFloat(x[c]) * scale * ToFloat(weight[c]));
}

template <typename T>
void Run(const RmsNormParams& p) {
#pragma omp parallel for if (p.rows >= 64)
  for (int64_t i = 0; i < p.rows; ++i) RunRow<T>(p, i);
}

}  // namespace

void RmsNormCpu(const RmsNormParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
