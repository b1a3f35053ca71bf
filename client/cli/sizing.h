#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// How many workers a load needs. Plain formulas, explained in docs/operating.md; nothing is
// measured here.

// One kind of request among those of a load.
struct RequestClass {
  double share = 1;            // of all requests; those of a load add up to 1
  double prefill_seconds = 0;  // on one prefill worker that does nothing else
  double kv_bytes = 0;         // reserved at a decode worker, with room for what is generated
};

// Requests come independently of each other (a Poisson process).
struct SizedLoad {
  double rate = 0;  // requests a second
  std::vector<RequestClass> classes;
};

struct PrefillSize {
  int64_t workers = 0;
  double utilisation = 0;   // share of the time that a worker computes
  double wait_seconds = 0;  // at the quantile
  double ttft_seconds = 0;  // of the longest prompt that waited so long
};

struct DecodeSize {
  int64_t workers = 0;
  double sequences = 0;          // at the quantile, over all workers
  double kv_bytes = 0;           // the same
  bool is_memory_bound = false;  // otherwise the batch decides
};

// The wait at `quantile` for the first of `workers` that is free (M/G/c): Erlang's share of
// requests that wait at all, and for those an exponential wait whose mean allows for unequal
// prompts. REQUIRES: the load keeps fewer workers busy.
double QueueWait(const SizedLoad& load, int64_t workers, double quantile);

// The fewest prefill workers that are busy for at most `max_utilisation` of the time and answer the
// longest prompt within `ttft_seconds` at `quantile`, when the router gives each request to the one
// with the least to do. FAILED_PRECONDITION: the longest prompt takes longer than that by itself,
// so that more workers do not help; or thousands would not do.
absl::StatusOr<PrefillSize> SizePrefill(const SizedLoad& load, double ttft_seconds, double quantile,
                                        double max_utilisation);

// The fewest decode workers that hold, at `quantile`, the sequences of the load: `max_batch` and
// `kv_bytes` each. A sequence is there for its prefill, since it reserves before it, and for
// `generation_seconds`. FAILED_PRECONDITION: one sequence is larger than a worker.
absl::StatusOr<DecodeSize> SizeDecode(const SizedLoad& load, double generation_seconds,
                                      int max_batch, double kv_bytes, double quantile);

}  // namespace winnow
