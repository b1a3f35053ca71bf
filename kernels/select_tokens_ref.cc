#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/select_tokens.h"

namespace winnow {
namespace {

void SelectRow(const SelectTokensParams& p, int64_t row) {
  const float* scores = p.scores + row * p.window_begin;
  std::vector<bool> keep(p.num_tokens, false);
  for (int64_t j = p.window_begin; j < p.num_tokens; ++j) keep[j] = true;
  for (int s = 0; s < p.num_spans; ++s) {
    for (int32_t j = p.spans[2 * s]; j < p.spans[2 * s + 1]; ++j) keep[j] = true;
  }
  std::vector<int32_t> others;
  for (int32_t j = 0; j < p.window_begin; ++j) {
    if (std::isnan(scores[j])) {
      *p.nan = 1.0f;
      for (int64_t i = 0; i < p.num_kept; ++i) p.positions[row * p.num_kept + i] = 0;  // in range
      return;
    }
    if (!keep[j]) others.push_back(j);
  }
  std::stable_sort(others.begin(), others.end(),
                   [&](int32_t a, int32_t b) { return scores[a] > scores[b]; });
  auto left = p.num_kept - static_cast<int64_t>(std::count(keep.begin(), keep.end(), true));
  for (int64_t i = 0; i < left; ++i) keep[others[i]] = true;
  int32_t* out = p.positions + row * p.num_kept;
  for (int64_t j = 0; j < p.num_tokens; ++j) {
    if (keep[j]) *out++ = static_cast<int32_t>(j);
  }
}

}  // namespace

void SelectTokensRef(const SelectTokensParams& p) {
  for (int64_t row = 0; row < p.rows; ++row) SelectRow(p, row);
}

void MaxScoresRef(const MaxScoresParams& p) {
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t j = 0; j < p.count; ++j) {
      const float score = p.scores[r * p.count + j];
      if (std::isnan(score)) *p.nan = 1.0f;
      p.best[j] = std::max(p.best[j], score);
    }
  }
}

}  // namespace winnow
