#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/prefill_engine.h"

namespace winnow {

// What the batching policy knows of a sequence that could run.
struct BatchCandidate {
  int64_t sequence = 0;
  PrefillProgress progress;
  int priority = 0;  // higher first
  absl::Time arrival;
};

// Cuts one step of at most `max_rows` rows. Of the highest priority present every sequence gets an
// equal share, and what short ones leave goes to the longer ones, so that a short prompt waits for
// at most one step of a long one. Rows left over go to the next priority. Items come in order of
// arrival (then sequence number).
std::vector<PrefillStepItem> MakeBatch(absl::Span<const BatchCandidate> candidates,
                                       int64_t max_rows);

}  // namespace winnow
