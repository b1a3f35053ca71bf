#include "engine/comm/nccl_api.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

ncclComm_t Comm(NcclComm comm) { return static_cast<ncclComm_t>(comm); }

NcclApi::Result ToResult(ncclResult_t result) {
  if (result == ncclSuccess) return NcclApi::Result::kSuccess;
  return result == ncclInProgress ? NcclApi::Result::kInProgress : NcclApi::Result::kError;
}

absl::Status Error(const char* what, const char* text) {
  return absl::InternalError(absl::StrCat("NCCL: ", what, ": ", text));
}

class RealNcclApi final : public NcclApi {
 public:
  absl::StatusOr<std::vector<NcclComm>> Init(const std::vector<int>& devices) override {
    ncclUniqueId id;
    if (const ncclResult_t got = ncclGetUniqueId(&id); got != ncclSuccess) {
      return Error("ncclGetUniqueId", ncclGetErrorString(got));
    }
    int before = 0;
    if (const cudaError_t got = cudaGetDevice(&before); got != cudaSuccess) {
      return Error("cudaGetDevice", cudaGetErrorString(got));
    }
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const auto size = static_cast<int>(devices.size());
    std::vector<ncclComm_t> comms(devices.size(), nullptr);
    ncclResult_t failure = ncclGroupStart();
    for (int rank = 0; rank < size && failure == ncclSuccess; ++rank) {
      if (const cudaError_t got = cudaSetDevice(devices[rank]); got != cudaSuccess) {
        ncclGroupEnd();
        return Error("cudaSetDevice", cudaGetErrorString(got));
      }
      const ncclResult_t got = ncclCommInitRankConfig(&comms[rank], size, id, rank, &config);
      if (got != ncclInProgress) failure = got;
    }
    const ncclResult_t ended = ncclGroupEnd();
    cudaSetDevice(before);
    if (failure == ncclSuccess && ended != ncclInProgress) failure = ended;
    if (failure != ncclSuccess) {
      for (ncclComm_t comm : comms) {
        if (comm != nullptr) ncclCommAbort(comm);
      }
      return Error("ncclCommInitRankConfig", ncclGetErrorString(failure));
    }
    return std::vector<NcclComm>(comms.begin(), comms.end());
  }

  Result AllReduce(NcclComm comm, void* data, DType dtype, int64_t count, Reduction reduction,
                   CudaStream stream) override {
    return ToResult(ncclAllReduce(
        data, data, static_cast<size_t>(count), dtype == DType::kF32 ? ncclFloat32 : ncclBfloat16,
        reduction == Reduction::kSum ? ncclSum : ncclMax, Comm(comm), stream));
  }
  Result AllGather(NcclComm comm, const void* in, void* out, int64_t bytes,
                   CudaStream stream) override {
    return ToResult(
        ncclAllGather(in, out, static_cast<size_t>(bytes), ncclUint8, Comm(comm), stream));
  }

  Result AsyncResult(NcclComm comm) override {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(Comm(comm), &state);
    return ToResult(asked == ncclSuccess ? state : asked);
  }
  std::string ErrorText(NcclComm comm) override {
    ncclResult_t state = ncclSuccess;
    ncclCommGetAsyncError(Comm(comm), &state);
    return absl::StrCat(ncclGetErrorString(state), ": ", ncclGetLastError(Comm(comm)));
  }
  void Abort(NcclComm comm) override { ncclCommAbort(Comm(comm)); }
};

}  // namespace

std::unique_ptr<NcclApi> MakeNcclApi() { return std::make_unique<RealNcclApi>(); }

}  // namespace winnow
