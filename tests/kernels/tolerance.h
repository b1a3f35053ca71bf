#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Unit roundoff u: |fl(x) − x| ≤ u·|x|. 24 and 8 significant bits.
constexpr double UnitRoundoff(DType dtype) { return dtype == DType::kF32 ? 0x1p-24 : 0x1p-8; }

// Bound of the error of an fp32 sum of products in any order: n·u·Σ|terms| in the worst case;
// rounding errors of either sign give √n·u·Σ|terms| with overwhelming probability at a factor of 4
// (Higham and Mary, 2019).
inline double SumTolerance(int64_t terms, double sum_of_magnitudes) {
  const auto n = static_cast<double>(terms);
  return std::min(n, 4.0 * std::sqrt(n)) * UnitRoundoff(DType::kF32) * sum_of_magnitudes;
}

}  // namespace winnow
