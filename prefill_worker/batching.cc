#include "prefill_worker/batching.h"

#include <algorithm>
#include <map>

namespace winnow {
namespace {

int64_t RowsLeft(const BatchCandidate& candidate) {
  return candidate.progress.num_rows - candidate.progress.next_row;
}

using Candidates = std::vector<const BatchCandidate*>;
using Rows = std::map<int64_t, int64_t>;  // by sequence

// Shortest first.
void SortByRowsLeft(Candidates& candidates) {
  std::sort(candidates.begin(), candidates.end(),
            [](const BatchCandidate* a, const BatchCandidate* b) {
              return RowsLeft(*a) != RowsLeft(*b) ? RowsLeft(*a) < RowsLeft(*b)
                                                  : a->sequence < b->sequence;
            });
}

// Shares `budget` rows among candidates of one priority; returns what is left of it.
int64_t Share(Candidates candidates, int64_t budget, Rows& rows_by_sequence) {
  SortByRowsLeft(candidates);
  auto waiting = static_cast<int64_t>(candidates.size());
  for (const BatchCandidate* candidate : candidates) {  // so shares only grow
    const int64_t rows = std::min(RowsLeft(*candidate), (budget + waiting - 1) / waiting);
    if (rows > 0) rows_by_sequence[candidate->sequence] = rows;
    budget -= rows;
    --waiting;
  }
  return budget;
}

// Gives `budget` rows to one after the other: few rows for each of many cost more than their work.
int64_t GiveInTurn(Candidates candidates, int64_t budget, Rows& rows_by_sequence) {
  SortByRowsLeft(candidates);
  for (const BatchCandidate* candidate : candidates) {
    const int64_t rows = std::min(RowsLeft(*candidate), budget);
    if (rows > 0) rows_by_sequence[candidate->sequence] = rows;
    budget -= rows;
  }
  return budget;
}

}  // namespace

std::vector<PrefillStepItem> MakeBatch(absl::Span<const BatchCandidate> candidates,
                                       int64_t max_rows) {
  std::map<int, Candidates, std::greater<>> by_priority;
  Candidates by_arrival;
  for (const BatchCandidate& candidate : candidates) {
    if (candidate.progress.is_done()) continue;
    by_priority[candidate.priority].push_back(&candidate);
    by_arrival.push_back(&candidate);
  }
  if (by_arrival.empty()) return {};
  Candidates& first = by_priority.begin()->second;
  const auto others = std::stable_partition(
      first.begin(), first.end(),
      [=](const BatchCandidate* c) { return RowsLeft(*c) <= ShortRows(max_rows); });
  const Candidates short_ones(first.begin(), others);
  first.erase(first.begin(), others);
  Rows rows_by_sequence;
  int64_t budget = max_rows;
  if (!short_ones.empty()) {
    budget = short_ones.size() < by_arrival.size() ? std::max<int64_t>(1, max_rows / 16) : 0;
    Share(short_ones, max_rows - budget, rows_by_sequence);
  }
  const auto give = short_ones.empty() ? Share : GiveInTurn;
  for (const auto& [priority, group] : by_priority) {
    if (budget > 0) budget = give(group, budget, rows_by_sequence);
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
        {candidate->sequence, candidate->progress.pass, candidate->progress.next_row, it->second});
  }
  return items;
}

}  // namespace winnow
