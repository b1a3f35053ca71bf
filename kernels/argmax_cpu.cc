#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/argmax.h"
#include "kernels/cpu_clones.h"

namespace winnow {
namespace {

// The highest value first, which vectorises, then its place.
WINNOW_CPU_CLONES int32_t ArgMaxRow(const float* __restrict row, int64_t width) {
  float best = -std::numeric_limits<float>::infinity();
  int num_nan = 0;
#pragma omp simd reduction(max : best) reduction(+ : num_nan)
  for (int64_t c = 0; c < width; ++c) {
    best = row[c] > best ? row[c] : best;
    num_nan += row[c] != row[c];
  }
  if (num_nan > 0 || !std::isfinite(best)) return -1;
  return static_cast<int32_t>(std::find(row, row + width, best) - row);
}

}  // namespace

void ArgMaxCpu(const ArgMaxParams& p) {
#pragma omp parallel for if (p.rows * p.width >= 1 << 18)
  for (int64_t i = 0; i < p.rows; ++i) p.out[i] = ArgMaxRow(p.in + i * p.width, p.width);
}

}  // namespace winnow
