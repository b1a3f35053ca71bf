#pragma once

#include <memory>
#include <vector>

#include "engine/comm/peer_memory.h"
#include "engine/device/cuda_fence.h"
#include "kernels/types.h"

namespace winnow {

// Memory of one GPU that several ranks share, each with a stream of its own. Nothing here waits on
// the host; errors come out of the backends' events.
class CudaPeerMemory final : public PeerMemory {
 public:
  // `streams` by rank, of one device; they must outlive it.
  CudaPeerMemory(int device, std::vector<CudaStream> streams);

  void Ready(int rank) override;
  void Follow(int rank) override;
  void Reduce(int rank, absl::Span<void* const> buffers, DType dtype, int64_t begin, int64_t end,
              Reduction reduction) override;
  void Copy(int rank, void* to, const void* from, int64_t bytes) override;

 private:
  const int device_;
  const std::vector<CudaStream> streams_;
  std::vector<CudaFence> ready_;  // by rank
};

}  // namespace winnow
