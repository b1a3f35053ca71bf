#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu_clones.h"
#include "kernels/select_tokens.h"

namespace winnow {
namespace {

// A candidate as one number: smaller is better. Upper half: the score's bits, made to fall as the
// score rises; lower half: the position, so that equal scores go to the lower one.
uint64_t Rank(float score, int32_t position) {
  const float plain = score + 0.0f;  // −0 becomes +0: they are equal
  uint32_t bits;
  std::memcpy(&bits, &plain, sizeof(bits));
  const uint32_t rising = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~rising) << 32 | static_cast<uint32_t>(position);
}

WINNOW_CPU_CLONES bool HasNan(const float* x, int64_t count) {
  int nan = 0;
  for (int64_t i = 0; i < count; ++i) nan |= x[i] != x[i];
  return nan != 0;
}

// True when some score is NaN.
WINNOW_CPU_CLONES bool TakeMax(const float* __restrict scores, int64_t count,
                               float* __restrict best) {
  int nan = 0;
  for (int64_t j = 0; j < count; ++j) {
    nan |= scores[j] != scores[j];
    best[j] = best[j] < scores[j] ? scores[j] : best[j];
  }
  return nan != 0;
}

// Selects one row. Linear in window_begin: the rank of the last candidate that fits, then one pass
// in ascending order.
bool SelectRow(const SelectTokensParams& p, const float* scores, int32_t* out) {
  if (HasNan(scores, p.window_begin)) {
    std::fill(out, out + p.num_kept, 0);  // in range
    return false;
  }
  const auto end = static_cast<int32_t>(p.window_begin);
  std::vector<uint64_t> ranks;
  ranks.reserve(end);
  int32_t j = 0;
  // What lies before, between and after the protected spans.
  for (int s = 0; s <= p.num_spans; ++s) {
    const int32_t stop = s < p.num_spans ? p.spans[2 * s] : end;
    for (; j < stop; ++j) ranks.push_back(Rank(scores[j], j));
    if (s < p.num_spans) j = p.spans[2 * s + 1];
  }
  const int64_t num_protected = end - static_cast<int64_t>(ranks.size());
  const int64_t wanted = p.num_kept - num_protected - (p.num_tokens - p.window_begin);
  uint64_t last = 0;  // better than any number's rank: nothing fits
  if (wanted > 0) {
    std::nth_element(ranks.begin(), ranks.begin() + (wanted - 1), ranks.end());
    last = ranks[wanted - 1];
  }
  j = 0;
  for (int s = 0; s <= p.num_spans; ++s) {
    const int32_t stop = s < p.num_spans ? p.spans[2 * s] : end;
    for (; j < stop; ++j) {
      if (Rank(scores[j], j) <= last) *out++ = j;
    }
    if (s == p.num_spans) break;
    for (; j < p.spans[2 * s + 1]; ++j) *out++ = j;
  }
  for (int64_t i = p.window_begin; i < p.num_tokens; ++i) *out++ = static_cast<int32_t>(i);
  return true;
}

}  // namespace

void SelectTokensCpu(const SelectTokensParams& p) {
  bool ok = true;
#pragma omp parallel for if (p.rows > 1) reduction(&& : ok)
  for (int64_t row = 0; row < p.rows; ++row) {
    ok = SelectRow(p, p.scores + row * p.window_begin, p.positions + row * p.num_kept) && ok;
  }
  if (!ok) *p.nan = 1.0f;
}

void MaxScoresCpu(const MaxScoresParams& p) {
  bool nan = false;
  for (int64_t r = 0; r < p.rows; ++r) nan |= TakeMax(p.scores + r * p.count, p.count, p.best);
  if (nan) *p.nan = 1.0f;
}

}  // namespace winnow
