#include "engine/device/cuda_peer_memory.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "kernels/reduce_peers.h"

namespace winnow {

CudaPeerMemory::CudaPeerMemory(int device, std::vector<CudaStream> streams)
    : device_(device), streams_(std::move(streams)) {
  for (size_t rank = 0; rank < streams_.size(); ++rank) ready_.emplace_back(device_);
}

void CudaPeerMemory::Ready(int rank) {
  cudaSetDevice(device_);
  ready_[rank].Record(streams_[rank]);
}

// A peer may have been ready again since the ranks met. That is later than needed, and what it was
// ready with then did not wait for anything that this rank has not enqueued yet.
void CudaPeerMemory::Follow(int rank) {
  cudaSetDevice(device_);
  for (const CudaFence& ready : ready_) ready.HoldBack(streams_[rank]);
}

void CudaPeerMemory::Reduce(int rank, absl::Span<void* const> buffers, DType dtype, int64_t begin,
                            int64_t end, Reduction reduction) {
  ReducePeersParams params{.num_buffers = static_cast<int>(buffers.size()),
                           .dtype = dtype,
                           .begin = begin,
                           .end = end,
                           .takes_max = reduction == Reduction::kMax};
  std::copy(buffers.begin(), buffers.end(), params.buffers);
  ReducePeersCuda(params, streams_[rank]);
}

void CudaPeerMemory::Copy(int rank, void* to, const void* from, int64_t bytes) {
  cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, streams_[rank]);
}

}  // namespace winnow
