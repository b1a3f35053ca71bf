#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/peer_copies.h"

namespace winnow {

// A group whose sums beside the queue (BeginSum, JoinSum) are copies: every rank puts its part into
// the inbox of every other one, and who reads the sum adds. Copies need none of the processors that
// compute, so that whole layers' products run beside them at full speed. All else, and sums in the
// queue, is the inner group's.
//
// Ranks meet on the host: at BeginSum, since a copy waits for what its sender and its receiver have
// enqueued, and at JoinSum. Whoever waits past its deadline breaks the group.
class PeerSums final : public CommunicatorGroup {
 public:
  // `size` ≤ kMaxAddends. `clock` must outlive the group. `least_aside`: Communicator's.
  PeerSums(std::unique_ptr<CommunicatorGroup> inner, std::unique_ptr<PeerCopies> copies, int size,
           int64_t least_aside, const Clock& clock);
  ~PeerSums() override;

  Communicator& communicator(int rank) override;
  absl::Status Reset() override;

 private:
  struct State;
  class Endpoint;
  const std::unique_ptr<CommunicatorGroup> inner_;
  const std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace winnow
