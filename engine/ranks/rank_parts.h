#pragma once

#include <functional>
#include <vector>

#include "engine/comm/communicator.h"
#include "engine/comm/rank_group.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"

namespace winnow {

// What an engine on a group of ranks is built on. Everything must outlive the engine.
struct RankParts {
  struct Rank {
    Backend* backend = nullptr;
    Communicator* communicator = nullptr;
    const ModelWeights* weights = nullptr;
  };
  std::vector<Rank> ranks;     // by rank
  RankGroup* group = nullptr;  // of the same size
  // Called after a failed step, when no rank is in a collective. May be empty.
  std::function<void()> reset_communicators;
};

}  // namespace winnow
