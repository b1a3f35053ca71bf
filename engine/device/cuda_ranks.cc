#include "engine/device/cuda_ranks.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/nccl_communicator.h"
#include "engine/device/cuda_backend.h"
#include "engine/device/cuda_peer_memory.h"

namespace winnow {
namespace {

// NCCL and its group, which lives no longer.
class OwnedNcclGroup final : public CommunicatorGroup {
 public:
  static absl::StatusOr<std::unique_ptr<CommunicatorGroup>> Create(NcclGroup::Options options) {
    auto owned = std::make_unique<OwnedNcclGroup>();
    options.api = owned->api_.get();
    WINNOW_ASSIGN_OR_RETURN(owned->group_, NcclGroup::Create(std::move(options)));
    return owned;
  }
  Communicator& communicator(int rank) override { return group_->communicator(rank); }
  absl::Status Reset() override { return group_->Reset(); }

 private:
  std::unique_ptr<NcclApi> api_ = MakeNcclApi();
  std::unique_ptr<NcclGroup> group_;
};

}  // namespace

absl::Status UseCuda(ModelRanks::Options& options, CudaPeers peers) {
  const bool shares = peers == CudaPeers::kOneGpu;
  const int devices = NumCudaDevices(), needed = shares ? 1 : options.tensor_parallel;
  if (needed > devices) {
    return absl::UnavailableError(absl::StrCat("--tp ", options.tensor_parallel, " needs ", needed,
                                               " GPU(s), there are ", devices));
  }
  const DType dtype = options.dtype;
  options.make_backend = [dtype, shares](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return CudaBackend::Create({.device = shares ? 0 : rank, .dtype = dtype});
  };
  options.make_communicators =
      [clock = options.clock, on_abort = options.on_nccl_abort, peers, shares,
       sums_aside_from = options.sums_aside_from](
          const auto& backends) -> absl::StatusOr<std::unique_ptr<CommunicatorGroup>> {
    const auto size = static_cast<int>(backends.size());
    const bool is_local = shares || (size == 1 && peers == CudaPeers::kAuto);
    NcclGroup::Options nccl{.clock = clock, .least_aside = sums_aside_from, .on_abort = on_abort};
    for (int rank = 0; rank < size; ++rank) {
      nccl.devices.push_back(rank);
      auto& backend = static_cast<CudaBackend&>(*backends[rank]);
      nccl.streams.push_back(backend.stream());
      nccl.side_streams.push_back(backend.side_stream());
    }
    if (!is_local) return OwnedNcclGroup::Create(std::move(nccl));
    return std::make_unique<LocalGroup>(size, *clock,
                                        std::make_unique<CudaPeerMemory>(0, nccl.streams));
  };
  return absl::OkStatus();
}

}  // namespace winnow
