#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/peer_memory.h"
#include "kernels/types.h"

namespace winnow {

using NcclComm = void*;  // one rank's end

// The part of NCCL that Winnow uses, with non-blocking communicators (ncclConfig_t::blocking = 0):
// a call may come back unfinished and is then followed by AsyncResult. The real one is in
// nccl_api.cc; tests fake it. Thread-safe for different communicators.
class NcclApi {
 public:
  enum class Result { kSuccess, kInProgress, kError };

  virtual ~NcclApi() = default;

  // Begins a group with rank i on GPU devices[i]; all ranks may be begun by one thread. Each then
  // becomes ready by itself: AsyncResult tells. INTERNAL: NCCL's own words.
  virtual absl::StatusOr<std::vector<NcclComm>> Init(const std::vector<int>& devices) = 0;

  // Enqueue on `stream`, in place. kSuccess: it is in the queue (done, if the data is the host's).
  virtual Result AllReduce(NcclComm comm, void* data, DType dtype, int64_t count,
                           Reduction reduction, CudaStream stream) = 0;
  // out: [size][bytes].
  virtual Result AllGather(NcclComm comm, const void* in, void* out, int64_t bytes,
                           CudaStream stream) = 0;

  // How the last call goes, and whether the communicator is well: an error of a peer shows here.
  virtual Result AsyncResult(NcclComm comm) = 0;
  virtual std::string ErrorText(NcclComm comm) = 0;
  // Ends a communicator, whatever it does: its kernels stop. The only call that may come from
  // another thread while one is under way. `comm` is gone afterwards.
  virtual void Abort(NcclComm comm) = 0;
};

// NCCL itself. Does not touch a GPU before Init.
std::unique_ptr<NcclApi> MakeNcclApi();

}  // namespace winnow
