#include "kernels/cuda_types.cuh"
#include "kernels/fill.h"

namespace winnow {
namespace {

__global__ void FillKernel(float* to, float value, int64_t count) {
  const int64_t at = blockIdx.x * int64_t{256} + threadIdx.x;
  if (at < count) to[at] = value;
}

}  // namespace

void FillCuda(float* to, float value, int64_t count, CudaStream stream) {
  if (count > 0) FillKernel<<<NumBlocks(count, 256), 256, 0, stream>>>(to, value, count);
}

}  // namespace winnow
