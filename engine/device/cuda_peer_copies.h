#pragma once

#include <memory>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/peer_copies.h"
#include "engine/device/cuda_fence.h"
#include "kernels/types.h"

namespace winnow {

// Copies by the GPUs' copy engines, over NVLink where there is some, on a stream of its own per
// rank. Nothing here waits on the host; errors come out of the backends' events.
class CudaPeerCopies final : public PeerCopies {
 public:
  // By rank: its device, and the stream of its backend, which must outlive it. Opens the devices'
  // memory pools to each other. Null: they cannot reach each other's memory.
  static std::unique_ptr<CudaPeerCopies> Create(std::vector<int> devices,
                                                std::vector<CudaStream> streams);
  ~CudaPeerCopies() override;

  void Ready(int rank, int slot) override;
  void Send(int rank, int peer, int slot, void* to, const void* from, int64_t bytes) override;
  void Sent(int rank, int slot) override;
  void Follow(int rank, int sender, int slot) override;

 private:
  struct Rank {
    int device = 0;
    CudaStream stream = nullptr, side = nullptr;
    std::vector<CudaFence> ready = {}, sent = {};  // by slot
  };
  CudaPeerCopies() = default;

  std::vector<Rank> ranks_;
};

}  // namespace winnow
