#include "kernels/reduce_peers.h"

#include <algorithm>

#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void ReducePeersKernel(ReducePeersParams p) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = p.begin + blockIdx.x * int64_t{kThreads} + threadIdx.x; i < p.end; i += step) {
    float value = Load(static_cast<const T*>(p.buffers[0])[i]);
    for (int peer = 1; peer < p.num_buffers; ++peer) {
      const float other = Load(static_cast<const T*>(p.buffers[peer])[i]);
      value = p.takes_max ? (value < other ? other : value) : value + other;
    }
    for (int peer = 0; peer < p.num_buffers; ++peer) {
      static_cast<T*>(p.buffers[peer])[i] = Store<T>(value);
    }
  }
}

}  // namespace

void ReducePeersCuda(const ReducePeersParams& p, CudaStream stream) {
  if (p.begin >= p.end) return;
  const unsigned blocks = std::min(NumBlocks(p.end - p.begin, kThreads), 1024u);
  DispatchDType(p.dtype,
                [&]<typename T>() { ReducePeersKernel<T><<<blocks, kThreads, 0, stream>>>(p); });
}

}  // namespace winnow
