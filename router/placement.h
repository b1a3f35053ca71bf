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
  bool failing = false;  // its requests fail: chosen only when nothing else is left
  std::string layout_digest;
  uint64_t incarnation = 0;
  // Tokens of the work that it has, by this router and by others, as far as that is known.
  int64_t outstanding = 0;
};

struct Placement {
  std::string prefill_address;
  std::string decode_address;       // empty when none is needed
  uint64_t decode_incarnation = 0;  // 0 with it
};

struct PlacementQuery {
  bool needs_decode = true;
  // Where ties begin to be broken; counts up with every request.
  size_t rotation = 0;
  // Addresses that failed this request: chosen only when nothing else is left.
  std::vector<std::string> avoid;
  // Only this prefill worker will do (it holds the KV); empty: any.
  std::string only_prefill;
};

// Chooses the ready workers with the least outstanding work: the prefill worker first, among those
// that have a ready decode worker of the same layout digest, then the decode worker. Failing ones
// come after all others, and after them those to avoid. Ties go to the one that comes first in the
// list, counted from `rotation`. UNAVAILABLE says which role is missing. Linear in the number of
// workers.
absl::StatusOr<Placement> ChooseWorkers(const std::vector<WorkerView>& prefill,
                                        const std::vector<WorkerView>& decode,
                                        const PlacementQuery& query);

}  // namespace winnow
