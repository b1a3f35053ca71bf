#include "engine/device/cuda_ranks.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/nccl_communicator.h"
#include "engine/device/cuda_backend.h"

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

absl::Status UseCuda(ModelRanks::Options& options) {
  const int devices = NumCudaDevices();
  if (options.tensor_parallel > devices) {
    return absl::UnavailableError(
        absl::StrCat("--tp ", options.tensor_parallel, " needs as many GPUs, there are ", devices));
  }
  const DType dtype = options.dtype;
  options.make_backend = [dtype](int rank) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return CudaBackend::Create({.device = rank, .dtype = dtype});
  };
  options.make_communicators =
      [clock = options.clock](
          const auto& backends) -> absl::StatusOr<std::unique_ptr<CommunicatorGroup>> {
    const auto size = static_cast<int>(backends.size());
    if (size == 1) return std::make_unique<LocalGroup>(1, *clock);
    NcclGroup::Options nccl{.clock = clock};
    for (int rank = 0; rank < size; ++rank) {
      nccl.devices.push_back(rank);
      nccl.streams.push_back(static_cast<CudaBackend&>(*backends[rank]).stream());
    }
    return OwnedNcclGroup::Create(std::move(nccl));
  };
  return absl::OkStatus();
}

}  // namespace winnow
