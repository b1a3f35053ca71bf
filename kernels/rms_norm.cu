#include <algorithm>

#include "kernels/cuda_types.cuh"
#include "kernels/rms_norm.h"

namespace winnow {
namespace {

// One block per row. A thread keeps its part of the row in registers between the sum and the
// scaling, so that x is read once: kUnits units of kWidth elements.
template <typename T, int kWidth, int kUnits>
__global__ void RmsNormKernel(T* x, Addends delta, const T* weight, T* out, int hidden, float eps) {
  struct alignas(kWidth * sizeof(T)) Unit {
    T v[kWidth];
  };
  __shared__ float scratch[32];
  const int64_t row = blockIdx.x * static_cast<int64_t>(hidden);
  const int units = hidden / kWidth;
  auto* x_row = reinterpret_cast<Unit*>(x + row);
  const auto delta_row = [&](int a) {
    return reinterpret_cast<const Unit*>(static_cast<const T*>(delta.data[a]) + row);
  };
  auto* out_row = reinterpret_cast<Unit*>(out + row);
  Unit kept[kUnits];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kUnits; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at >= units) break;
    kept[i] = x_row[at];
    if (delta.count > 0) {
      Unit d = delta_row(0)[at];
      float total[kWidth];
#pragma unroll
      for (int j = 0; j < kWidth; ++j) total[j] = Load(d.v[j]);
#pragma unroll
      for (int a = 1; a < kMaxAddends; ++a) {
        if (a >= delta.count) break;
        d = delta_row(a)[at];
#pragma unroll
        for (int j = 0; j < kWidth; ++j) total[j] += Load(d.v[j]);
      }
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        kept[i].v[j] = Store<T>(Load(kept[i].v[j]) + Load(Store<T>(total[j])));
      }
      x_row[at] = kept[i];
    }
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum += Load(kept[i].v[j]) * Load(kept[i].v[j]);
  }
  if (out == nullptr) return;
  const float scale = 1.0f / sqrtf(BlockSum(sum, scratch) / static_cast<float>(hidden) + eps);
#pragma unroll
  for (int i = 0; i < kUnits; ++i) {
    const int at = threadIdx.x + i * blockDim.x;
    if (at >= units) break;
    const Unit w = reinterpret_cast<const Unit*>(weight)[at];
    Unit y;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      y.v[j] = Store<T>(Load(kept[i].v[j]) * scale * Load(w.v[j]));
    }
    out_row[at] = y;
  }
}

template <typename T, int kWidth>
void Launch(const RmsNormParams& p, CudaStream stream) {
  constexpr int kThreads = 256;
  const int units = p.hidden / kWidth;
  const auto run = [&](auto kernel, int threads) {
    kernel<<<static_cast<unsigned>(p.rows), threads, 0, stream>>>(
        static_cast<T*>(p.x), p.delta, static_cast<const T*>(p.weight), static_cast<T*>(p.out),
        p.hidden, p.eps);
  };
  if (units <= 2 * kThreads) {
    run(RmsNormKernel<T, kWidth, 2>, kThreads);
  } else if (units <= 8 * kThreads) {
    run(RmsNormKernel<T, kWidth, 8>, kThreads);
  } else {
    run(RmsNormKernel<T, kWidth, 32>, 1024);  // up to 32K units
  }
}

}  // namespace

void RmsNormCuda(const RmsNormParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    constexpr int kWide = Vec16<T>::kSize;
    const bool wide = p.hidden % kWide == 0 && IsAligned16(p.x) && IsAligned16(p.weight) &&
                      IsAligned16(p.out) &&
                      std::all_of(p.delta.data, p.delta.data + kMaxAddends,
                                  [](auto* d) { return IsAligned16(d); });
    wide ? Launch<T, kWide>(p, stream) : Launch<T, 1>(p, stream);
  });
}

}  // namespace winnow
