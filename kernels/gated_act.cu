#include <algorithm>

#include "kernels/cuda_types.cuh"
#include "kernels/gated_act.h"

namespace winnow {
namespace {

constexpr int kThreads = 256;

// bf16 keeps none of the digits that the fast exponential and division lack.
__device__ float Silu(float z, float) { return z / (1.0f + expf(-z)); }
__device__ float Silu(float z, __nv_bfloat16) { return __fdividef(z, 1.0f + __expf(-z)); }

// A row per blockIdx.y; kWidth elements of output per thread, moved at once.
template <typename T, int kWidth>
__global__ void GatedActKernel(const T* gate_up, T* out, int64_t width, int64_t first_row) {
  struct alignas(kWidth * sizeof(T)) Unit {
    T v[kWidth];
  };
  const auto column = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  const auto per_row = static_cast<int>(width / kWidth);
  if (column >= per_row) return;
  const int64_t row = first_row + blockIdx.y;
  const auto* gate = reinterpret_cast<const Unit*>(gate_up + row * 2 * width);
  const Unit g = gate[column], u = gate[per_row + column];
  Unit y;
#pragma unroll
  for (int j = 0; j < kWidth; ++j) {
    y.v[j] = Store<T>(Silu(Load(g.v[j]), T{}) * Load(u.v[j]));
  }
  reinterpret_cast<Unit*>(out + row * width)[column] = y;
}

}  // namespace

void GatedActCuda(const GatedActParams& p, CudaStream stream) {
  if (p.rows == 0 || p.width == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    constexpr int kWide = Vec16<T>::kSize;
    const bool wide = p.width % kWide == 0 && IsAligned16(p.gate_up) && IsAligned16(p.out);
    const auto kernel = wide ? GatedActKernel<T, kWide> : GatedActKernel<T, 1>;
    constexpr int64_t kMaxRows = 65535;  // of a grid
    for (int64_t row = 0; row < p.rows; row += kMaxRows) {
      const dim3 grid(NumBlocks(p.width / (wide ? kWide : 1), kThreads),
                      static_cast<unsigned>(std::min(kMaxRows, p.rows - row)));
      kernel<<<grid, kThreads, 0, stream>>>(static_cast<const T*>(p.gate_up),
                                            static_cast<T*>(p.out), p.width, row);
    }
  });
}

}  // namespace winnow
