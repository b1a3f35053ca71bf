#include <cmath>

#include "kernels/cpu_clones.h"
#include "kernels/rms_norm.h"

namespace winnow {
namespace {

// Partial sums of the squares, one per vector lane, so that the reduction vectorises in a fixed
// order.
constexpr int kLanes = 16;

template <typename T>
WINNOW_CPU_CLONES void AddRow(T* __restrict x, const T* __restrict delta, int hidden) {
  for (int c = 0; c < hidden; ++c) x[c] = FromFloat<T>(ToFloat(x[c]) + ToFloat(delta[c]));
}

template <typename T>
void AddRows(T* x, const Addends& delta, int64_t at, int hidden) {
  const auto row = [&](int a) { return static_cast<const T*>(delta.data[a]) + at; };
  if (delta.count == 1) return AddRow(x, row(0), hidden);
  for (int c = 0; delta.count > 0 && c < hidden; ++c) {
    float sum = ToFloat(row(0)[c]);
    for (int a = 1; a < delta.count; ++a) sum += ToFloat(row(a)[c]);
    x[c] = FromFloat<T>(ToFloat(x[c]) + ToFloat(FromFloat<T>(sum)));
  }
}

template <typename T>
WINNOW_CPU_CLONES void NormRow(const T* __restrict x, const T* __restrict weight, T* __restrict out,
                               int hidden, float eps) {
  float lanes[kLanes] = {};
  int c = 0;
  for (; c + kLanes <= hidden; c += kLanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i] += ToFloat(x[c + i]) * ToFloat(x[c + i]);
  }
  float sum = 0.0f;
  for (; c < hidden; ++c) sum += ToFloat(x[c]) * ToFloat(x[c]);
  for (float lane : lanes) sum += lane;
  const float scale = 1.0f / std::sqrt(sum / hidden + eps);
  for (c = 0; c < hidden; ++c) out[c] = FromFloat<T>(ToFloat(x[c]) * scale * ToFloat(weight[c]));
}

template <typename T>
void Run(const RmsNormParams& p) {
  const T* weight = static_cast<const T*>(p.weight);
#pragma omp parallel for if (p.rows >= 64)
  for (int64_t i = 0; i < p.rows; ++i) {
    const int64_t at = i * p.hidden;
    T* x = static_cast<T*>(p.x) + at;
    AddRows(x, p.delta, at, p.hidden);
    if (p.out != nullptr) NormRow(x, weight, static_cast<T*>(p.out) + at, p.hidden, p.eps);
  }
}

}  // namespace

void RmsNormCpu(const RmsNormParams& p) { p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p); }

}  // namespace winnow
