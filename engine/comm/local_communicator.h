#pragma once

#include <memory>
#include <vector>

#include "common/clock.h"
#include "engine/comm/communicator.h"

namespace winnow {

// Collectives among threads of one process over memory that every thread can read. Waits block (no
// spinning), so that more ranks than cores work.
class LocalGroup {
 public:
  // `clock` must outlive the group.
  LocalGroup(int size, const Clock& clock);
  ~LocalGroup();

  // Rank's end; lives as long as the group.
  Communicator& communicator(int rank);
  // Forgets an abort or a missed deadline. REQUIRES: no rank is inside a collective.
  void Reset();

 private:
  struct State;
  class Endpoint;
  std::unique_ptr<State> state_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
};

}  // namespace winnow
