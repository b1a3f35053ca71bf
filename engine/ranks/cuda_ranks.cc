#include "engine/ranks/cuda_ranks.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/nccl_communicator.h"
#include "engine/comm/peer_sums.h"
#include "engine/device/cuda_backend.h"
#include "engine/device/cuda_peer_copies.h"
#include "engine/device/cuda_peer_memory.h"

namespace winnow {
namespace {

// The smallest sum whose overlap with compute pays (docs/performance.md).
int64_t MinOverlapElements(int num_ranks) {
  return num_ranks == 2 ? 1'000'000 : Communicator::kNeverOverlapped;
}

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
  options.make_backend = [types = options.types,
                          shares](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return CudaBackend::Create({.device = shares ? 0 : rank, .types = types});
  };
  options.make_communicators =
      [clock = options.clock, on_abort = options.on_nccl_abort, peers, shares,
       min_overlap_elements =
           options.min_overlap_elements.value_or(MinOverlapElements(options.tensor_parallel))](
          const auto& backends) -> absl::StatusOr<std::unique_ptr<CommunicatorGroup>> {
    const auto size = static_cast<int>(backends.size());
    const bool is_local = shares || (size == 1 && peers == CudaPeers::kAuto);
    std::vector<int> devices;
    std::vector<CudaStream> streams;
    for (int rank = 0; rank < size; ++rank) {
      devices.push_back(shares ? 0 : rank);
      streams.push_back(static_cast<CudaBackend&>(*backends[rank]).stream());
    }
    std::unique_ptr<CommunicatorGroup> group;
    if (is_local) {
      group =
          std::make_unique<LocalGroup>(size, *clock, std::make_unique<CudaPeerMemory>(0, streams));
    } else {
      WINNOW_ASSIGN_OR_RETURN(
          group,
          OwnedNcclGroup::Create(
              {.clock = clock, .devices = devices, .streams = streams, .on_abort = on_abort}));
    }
    if (size == 1 || size > kMaxAddends || min_overlap_elements == Communicator::kNeverOverlapped)
      return group;
    auto copies = CudaPeerCopies::Create(devices, streams);
    if (copies == nullptr) return group;
    return std::make_unique<PeerSums>(std::move(group), std::move(copies), size,
                                      min_overlap_elements, *clock);
  };
  return absl::OkStatus();
}

}  // namespace winnow
