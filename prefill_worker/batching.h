#pragma once

#include <algorithm>
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

// Rows of a pass that is short where a step takes `max_rows`.
inline int64_t ShortRows(int64_t max_rows) { return std::max<int64_t>(1, max_rows / 8); }

// Cuts one step of at most `max_rows` rows. Of the highest priority present every sequence gets an
// equal share, and what shorter ones leave goes to the longer ones. But a step that can end a short
// pass is kept small, with a sixteenth of `max_rows` for all others, in turn, those first that
// have least to do: so a short prompt waits for one full step at most, the one that runs when it
// comes, and a long one does not wait for others to make its token when its rows are done. Rows
// left over go to the next priority. Items come in order of arrival (then sequence number).
std::vector<PrefillStepItem> MakeBatch(absl::Span<const BatchCandidate> candidates,
                                       int64_t max_rows);

}  // namespace winnow
