#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// What placement knows about one worker.
struct WorkerView {
  std::string address;
  bool ready = false;
  bool failing = false;  // its requests fail: chosen only as a last resort
  std::string layout_digest;
  uint64_t incarnation = 0;
  // Work in tokens, of this router and, as far as known, of others.
  int64_t outstanding = 0;
};

struct Placement {
  std::string prefill_address;
  std::string decode_address;       // empty when no decode worker is needed
  uint64_t decode_incarnation = 0;  // 0 when no decode worker is needed
};

struct PlacementQuery {
  bool needs_decode = true;
  // The position in the list where the breaking of ties starts; counts up with every request.
  size_t rotation = 0;
  // Addresses that failed this request: chosen only as the last resort of all.
  std::vector<std::string> avoid;
  // The prefill worker that must be chosen, since it holds the KV; empty: any.
  std::string only_prefill;
};

// Chooses the ready workers with the least outstanding work: first the prefill worker, among those
// for which there is a ready decode worker of the same layout digest, then the decode worker.
// Failing workers come after all others, and workers to avoid after those. Ties go to the first in
// the list, counted from `rotation`. UNAVAILABLE says which role is missing. Linear in the number
// of workers.
absl::StatusOr<Placement> ChooseWorkers(const std::vector<WorkerView>& prefill,
                                        const std::vector<WorkerView>& decode,
                                        const PlacementQuery& query);

}  // namespace winnow
