#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/nccl_api.h"

namespace winnow {

// Collectives over NCCL among the rank threads of one process, a GPU each (NCCL refuses two ranks
// on one). A collective is enqueued on its rank's stream and returns: it is done when an Event
// recorded after it is, and a peer that is late shows there, too. Whoever waits in vain calls
// Abort, which stops the kernels on all ranks.
class NcclGroup final : public CommunicatorGroup {
 public:
  struct Options {
    NcclApi* api = nullptr;
    const Clock* clock = nullptr;
    std::vector<int> devices;         // by rank
    std::vector<CudaStream> streams;  // by rank: the queues of the ranks' backends
    absl::Duration init_timeout = absl::Minutes(2);
    // The group broke and its communicators were aborted: DEADLINE_EXCEEDED (a peer was late),
    // INTERNAL (NCCL's own word), or what Abort was given. On any thread, once until a Reset.
    std::function<void(const absl::Status& reason)> on_abort;
  };
  // What `options` points to must outlive the group. INVALID_ARGUMENT: two ranks on one device.
  // DEADLINE_EXCEEDED, INTERNAL: NCCL did not come up.
  static absl::StatusOr<std::unique_ptr<NcclGroup>> Create(Options options);
  ~NcclGroup() override;

  Communicator& communicator(int rank) override;
  absl::Status Reset() override;  // new NCCL communicators; the errors of Create

 private:
  struct State;
  class Endpoint;
  explicit NcclGroup(Options options);

  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace winnow
