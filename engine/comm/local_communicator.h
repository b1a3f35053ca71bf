#pragma once

#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/peer_memory.h"

namespace winnow {

// Collectives among threads of one process over memory that every rank can read: the host's, or
// that of one GPU. Waits block (no spinning), so that more ranks than cores work.
class LocalGroup final : public CommunicatorGroup {
 public:
  // `clock` must outlive the group. `memory` null: the host's.
  LocalGroup(int size, const Clock& clock, std::unique_ptr<PeerMemory> memory = nullptr);
  ~LocalGroup() override;

  Communicator& communicator(int rank) override;
  absl::Status Reset() override;  // always OK

 private:
  struct State;
  class Endpoint;
  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace winnow
