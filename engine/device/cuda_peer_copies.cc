#include "engine/device/cuda_peer_copies.h"

#include <cuda_runtime_api.h>

namespace winnow {
namespace {

// What `owner` allocates, by its pool or not, `user` may read and write.
bool Open(int owner, int user) {
  int reaches = 0;
  if (cudaDeviceCanAccessPeer(&reaches, user, owner) != cudaSuccess || reaches == 0) return false;
  cudaSetDevice(user);
  const cudaError_t enabled = cudaDeviceEnablePeerAccess(owner, 0);
  if (enabled == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();
  } else if (enabled != cudaSuccess) {
    return false;
  }
  cudaMemPool_t pool = nullptr;
  const cudaMemAccessDesc access = {.location = {.type = cudaMemLocationTypeDevice, .id = user},
                                    .flags = cudaMemAccessFlagsProtReadWrite};
  return cudaDeviceGetDefaultMemPool(&pool, owner) == cudaSuccess &&
         cudaMemPoolSetAccess(pool, &access, 1) == cudaSuccess;
}

}  // namespace

std::unique_ptr<CudaPeerCopies> CudaPeerCopies::Create(std::vector<int> devices,
                                                       std::vector<CudaStream> streams) {
  for (const int owner : devices) {
    for (const int user : devices) {
      if (owner != user && !Open(owner, user)) {
        cudaGetLastError();
        return nullptr;
      }
    }
  }
  auto copies = std::unique_ptr<CudaPeerCopies>(new CudaPeerCopies());
  for (size_t i = 0; i < devices.size(); ++i) {
    Rank& rank = copies->ranks_.emplace_back();
    rank.device = devices[i];
    rank.stream = streams[i];
    cudaSetDevice(rank.device);
    cudaStreamCreateWithFlags(&rank.side, cudaStreamNonBlocking);
    for (int slot = 0; slot < Communicator::kMaxBegunSums; ++slot) {
      rank.ready.emplace_back(rank.device);
      rank.sent.emplace_back(rank.device);
    }
  }
  return copies;
}

CudaPeerCopies::~CudaPeerCopies() {
  for (const Rank& rank : ranks_) {
    cudaSetDevice(rank.device);
    cudaStreamSynchronize(rank.side);
  }
  for (const Rank& rank : ranks_) {
    cudaSetDevice(rank.device);
    cudaStreamDestroy(rank.side);
  }
}

void CudaPeerCopies::Ready(int rank, int slot) {
  cudaSetDevice(ranks_[rank].device);
  ranks_[rank].ready[slot].Record(ranks_[rank].stream);
}

void CudaPeerCopies::Send(int rank, int peer, int slot, void* to, const void* from, int64_t bytes) {
  const Rank &sender = ranks_[rank], &receiver = ranks_[peer];
  cudaSetDevice(sender.device);
  sender.ready[slot].HoldBack(sender.side);
  receiver.ready[slot].HoldBack(sender.side);
  cudaMemcpyPeerAsync(to, receiver.device, from, sender.device, bytes, sender.side);
}

void CudaPeerCopies::Sent(int rank, int slot) {
  cudaSetDevice(ranks_[rank].device);
  ranks_[rank].sent[slot].Record(ranks_[rank].side);
}

void CudaPeerCopies::Follow(int rank, int sender, int slot) {
  cudaSetDevice(ranks_[rank].device);
  ranks_[sender].sent[slot].HoldBack(ranks_[rank].stream);
}

}  // namespace winnow
