#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

constexpr int kMaxPeers = 16;

// Elements [begin, end) of several buffers on one device, summed (or their maximum taken) in fp32
// in the order of the buffers, into all of them. What ranks that share a GPU have for an
// all-reduce.
struct ReducePeersParams {
  void* buffers[kMaxPeers] = {};
  int num_buffers = 0;
  DType dtype = DType::kF32;
  int64_t begin = 0;
  int64_t end = 0;
  bool takes_max = false;
};

void ReducePeersCuda(const ReducePeersParams& p, CudaStream stream);

}  // namespace winnow
