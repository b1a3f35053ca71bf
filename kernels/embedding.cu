#include "kernels/cuda_types.cuh"
#include "kernels/embedding.h"

namespace winnow {
namespace {

template <typename T>
__global__ void EmbeddingKernel(EmbeddingParams p) {
  const int64_t local = p.ids[blockIdx.x] - p.shard_begin;
  const bool held = local >= 0 && local < p.shard_rows;
  const T* from = static_cast<const T*>(p.table) + (held ? local : 0) * p.hidden;
  T* to = static_cast<T*>(p.out) + blockIdx.x * p.hidden;
  for (int64_t c = threadIdx.x; c < p.hidden; c += blockDim.x) {
    to[c] = held ? from[c] : Store<T>(0.0f);
  }
}

}  // namespace

void EmbeddingCuda(const EmbeddingParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  DispatchDType(p.dtype, [&]<typename T>() {
    EmbeddingKernel<T><<<static_cast<unsigned>(p.rows), 256, 0, stream>>>(p);
  });
}

}  // namespace winnow
