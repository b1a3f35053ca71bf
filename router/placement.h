#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// What placement knows of one worker.
struct WorkerView {
  std::string address;
  bool ready = false;
  std::string layout_digest;
  uint64_t incarnation = 0;
  int64_t outstanding = 0;  // tokens dispatched and not ended, counted by the router at dispatch
};

struct Placement {
  std::string prefill_address;
  std::string decode_address;       // empty when none is needed
  uint64_t decode_incarnation = 0;  // 0 with it
};

// Chooses the ready workers with the least outstanding work, prefill first, then a decode worker of the same layout digest;
// ties go to the one that comes first in the list, counted from `rotation`. Workers in `avoid` are chosen only when nothing
// else is left. UNAVAILABLE says which role is missing.
absl::StatusOr<Placement> ChooseWorkers(const std::vector<WorkerView>& prefill, const std::vector<WorkerView>& decode,
                                        bool needs_decode, size_t rotation, const std::vector<std::string>& avoid);

}  // namespace winnow
