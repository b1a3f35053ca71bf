#include "kernels/cuda_types.cuh"
#include "kernels/silu_mul.h"

namespace winnow {
namespace {

constexpr int kThreads = 256;

// kWidth elements of output per thread, moved at once.
template <typename T, int kWidth>
__global__ void SiluMulKernel(const T* gate_up, T* out, int64_t units, int64_t width) {
  struct alignas(kWidth * sizeof(T)) Unit {
    T v[kWidth];
  };
  const int64_t at = blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x;
  if (at >= units) return;
  const int64_t per_row = width / kWidth;
  const int64_t row = at / per_row, column = at % per_row;
  const auto* gate = reinterpret_cast<const Unit*>(gate_up + row * 2 * width);
  const Unit g = gate[column], u = gate[per_row + column];
  Unit y;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    const float z = Load(g.v[j]);
    y.v[j] = Store<T>(z / (1.0f + expf(-z)) * Load(u.v[j]));
  }
  reinterpret_cast<Unit*>(out)[at] = y;
}

}  // namespace

void SiluMulCuda(const SiluMulParams& p, CudaStream stream) {
  if (p.rows == 0 || p.width == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    constexpr int kWide = Vec16<T>::kSize;
    const bool wide = p.width % kWide == 0 && IsAligned16(p.gate_up) && IsAligned16(p.out);
    const int64_t units = p.rows * p.width / (wide ? kWide : 1);
    const auto kernel = wide ? SiluMulKernel<T, kWide> : SiluMulKernel<T, 1>;
    kernel<<<NumBlocks(units, kThreads), kThreads, 0, stream>>>(
        static_cast<const T*>(p.gate_up), static_cast<T*>(p.out), units, p.width);
  });
}

}  // namespace winnow
