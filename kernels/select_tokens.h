#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// best[j] = max(best[j], scores[r,j]) over rows r; NaN anywhere sets *nan to 1 (best[j] is then
// unspecified).
struct MaxScoresParams {
  const float* scores = nullptr;  // [rows][count]
  float* best = nullptr;          // [count]; start with −infinity
  float* nan = nullptr;  // one fp32 flag, so that it rides in the same all-reduce; only ever set
  int64_t rows = 0;
  int64_t count = 0;
};

void MaxScoresRef(const MaxScoresParams& p);
void MaxScoresCpu(const MaxScoresParams& p);
void MaxScoresCuda(const MaxScoresParams& p, CudaStream stream);

// For each row on its own: the positions kept of a prompt, ascending. Kept are the protected
// positions, the best others by score, and every position from window_begin on; num_kept in all.
// Equal scores go to the lower position. NaN in a row sets *nan to 1 (its positions are then
// unspecified but in range).
struct SelectTokensParams {
  const float* scores = nullptr;  // [rows][window_begin]
  const int32_t* spans =
      nullptr;  // [num_spans][2]: protected [begin, end), ascending, disjoint, < window_begin
  int32_t* positions = nullptr;  // [rows][num_kept], out
  float* nan = nullptr;
  int64_t rows = 0;
  int64_t window_begin = 0;  // E
  int64_t num_tokens = 0;    // N
  int64_t num_kept = 0;      // C ≥ protected + N − E
  int num_spans = 0;
};

void SelectTokensRef(const SelectTokensParams& p);
void SelectTokensCpu(const SelectTokensParams& p);
void SelectTokensCuda(const SelectTokensParams& p, CudaStream stream);

}  // namespace winnow
