#include "prefill_worker/batching.h"

#include <algorithm>
#include <map>

namespace winnow {
namespace {

int64_t RowsLeft(const BatchCandidate& candidate) {
  return candidate.progress.num_rows - candidate.progress.next_row;
}

// Shares `budget` rows among candidates of one priority; returns what is left of it.
int64_t Share(std::vector<const BatchCandidate*> candidates, int64_t budget,
              std::map<int64_t, int64_t>& rows_by_sequence) {
  std::sort(candidates.begin(), candidates.end(),
            [](const BatchCandidate* a, const BatchCandidate* b) {
              return RowsLeft(*a) != RowsLeft(*b) ? RowsLeft(*a) < RowsLeft(*b)
                                                  : a->sequence < b->sequence;
            });
  auto waiting = static_cast<int64_t>(candidates.size());
  for (const BatchCandidate* candidate : candidates) {  // shortest first, so shares only grow
    const int64_t rows = std::min(RowsLeft(*candidate), (budget + waiting - 1) / waiting);
    if (rows > 0) rows_by_sequence[candidate->sequence] = rows;
    budget -= rows;
    --waiting;
  }
  return budget;
}

}  // namespace

std::vector<PrefillStepItem> MakeBatch(absl::Span<const BatchCandidate> candidates,
                                       int64_t max_rows) {
  std::map<int, std::vector<const BatchCandidate*>, std::greater<>> by_priority;
  std::vector<const BatchCandidate*> by_arrival;
  for (const BatchCandidate& candidate : candidates) {
    if (candidate.progress.phase == PrefillPhase::kDone) continue;
    by_priority[candidate.priority].push_back(&candidate);
    by_arrival.push_back(&candidate);
  }
  std::map<int64_t, int64_t> rows_by_sequence;
  int64_t budget = max_rows;
  for (const auto& [priority, group] : by_priority) {
    if (budget > 0) budget = Share(group, budget, rows_by_sequence);
  }
  std::sort(by_arrival.begin(), by_arrival.end(),
            [](const BatchCandidate* a, const BatchCandidate* b) {
              return a->arrival != b->arrival ? a->arrival < b->arrival : a->sequence < b->sequence;
            });
  std::vector<PrefillStepItem> items;
  for (const BatchCandidate* candidate : by_arrival) {
    auto it = rows_by_sequence.find(candidate->sequence);
    if (it == rows_by_sequence.end()) continue;
    items.push_back(
        {candidate->sequence, candidate->progress.phase, candidate->progress.next_row, it->second});
  }
  return items;
}

}  // namespace winnow
