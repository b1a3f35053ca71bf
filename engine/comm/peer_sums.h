#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/peer_copies.h"

namespace winnow {

// A group whose overlapped sums (BeginSum, JoinSum) are copies: every rank puts its part into the
// inbox of every other rank, and the reader of the sum adds. Copies need none of the processors
// that compute, so that whole layers' products run beside them at full speed. Everything else, sums
// in the queue included, is the inner group's.
//
// Ranks meet on the host: at BeginSum, since a copy waits for what its sender and its receiver have
// enqueued, and at JoinSum. Whoever waits past its deadline breaks the group.
class PeerSums final : public CommunicatorGroup {
 public:
  // `size` ≤ kMaxAddends. `clock` must outlive the group. `min_overlap_elements`: Communicator's.
  PeerSums(std::unique_ptr<CommunicatorGroup> inner, std::unique_ptr<PeerCopies> copies, int size,
           int64_t min_overlap_elements, const Clock& clock);
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
