#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/select_tokens.h"

namespace winnow {
namespace {

// A position's rank: higher score first, then lower position. (−0 and +0 compare equal, as they should.)
struct Candidate {
  float score;
  int32_t position;
  bool operator<(const Candidate& other) const {
    return score != other.score ? score > other.score : position < other.position;
  }
};

void SelectRow(const SelectTokensParams& p, int64_t row) {
  const float* scores = p.scores + row * p.window_begin;
  int32_t* out = p.positions + row * p.num_kept;
  if (std::any_of(scores, scores + p.window_begin, [](float x) { return std::isnan(x); })) {
    *p.nan = 1.0f;
    std::fill(out, out + p.num_kept, 0);  // in range
    return;
  }
  std::vector<Candidate> candidates;
  candidates.reserve(p.window_begin);
  int64_t kept = 0;
  int32_t j = 0;
  for (int s = 0; s <= p.num_spans; ++s) {  // what lies before, between and after the protected spans
    const auto stop = s < p.num_spans ? p.spans[2 * s] : static_cast<int32_t>(p.window_begin);
    for (; j < stop; ++j) candidates.push_back({scores[j], j});
    if (s == p.num_spans) break;
    for (; j < p.spans[2 * s + 1]; ++j) out[kept++] = j;
  }
  const int64_t wanted = p.num_kept - kept - (p.num_tokens - p.window_begin);
  std::nth_element(candidates.begin(), candidates.begin() + wanted, candidates.end());
  for (int64_t i = 0; i < wanted; ++i) out[kept++] = candidates[i].position;
  for (int64_t i = p.window_begin; i < p.num_tokens; ++i) out[kept++] = static_cast<int32_t>(i);
  std::sort(out, out + p.num_kept);
}

}  // namespace

void SelectTokensCpu(const SelectTokensParams& p) {
#pragma omp parallel for if (p.rows > 1)
  for (int64_t row = 0; row < p.rows; ++row) SelectRow(p, row);
}

void MaxScoresCpu(const MaxScoresParams& p) {
  bool nan = false;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* scores = p.scores + r * p.count;
    for (int64_t j = 0; j < p.count; ++j) {
      nan |= scores[j] != scores[j];
      p.best[j] = p.best[j] < scores[j] ? scores[j] : p.best[j];
    }
  }
  if (nan) *p.nan = 1.0f;
}

}  // namespace winnow
