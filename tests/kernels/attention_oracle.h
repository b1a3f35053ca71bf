#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/types.h"
#include "tests/kernels/tolerance.h"

namespace winnow {

// What an implementation of attention rounds besides fp32 sums.
struct AttentionPrecision {
  double exp_error = 0x1p-21;  // relative: FastExp's 2 ulp, Exp2's 2.1e-7
  double weight_roundoff = 0;  // of weights before they meet V
};
constexpr AttentionPrecision kBf16Weights = {3e-6, 0x1p-8};

// Attention of one query in double, and how far an implementation may be off.
struct AttentionOracle {
  std::vector<double> out, tolerance;  // [head_dim]; the tolerance without the store's rounding
  double lse = 0, lse_tolerance = 0;
  std::vector<double> weights;  // [visible], softmax
  double weight_tolerance = 0;  // relative, of every weight
};

// q(c), k(j, c) and v(j, c) give numbers; keys j < visible are seen.
template <typename Q, typename K, typename V>
AttentionOracle AttendInDouble(int head_dim, int64_t visible, Q q, K k, V v,
                               AttentionPrecision precision) {
  const double u = UnitRoundoff(DType::kF32), root = std::sqrt(static_cast<double>(head_dim));
  AttentionOracle oracle;
  oracle.weights.resize(visible);
  double highest = -INFINITY, largest = 0, score_error = 0;
  for (int64_t j = 0; j < visible; ++j) {
    double dot = 0, magnitude = 0;
    for (int c = 0; c < head_dim; ++c) {
      const double term = double{q(c)} * k(j, c);
      dot += term;
      magnitude += std::abs(term);
    }
    oracle.weights[j] = dot / root;
    highest = std::max(highest, oracle.weights[j]);
    largest = std::max(largest, std::abs(oracle.weights[j]));
    score_error = std::max(score_error, SumTolerance(head_dim, magnitude) / root);
  }
  score_error += 4 * u * largest;  // scale, base change, difference to the maximum
  double sum = 0;
  for (double& w : oracle.weights) sum += (w = std::exp(w - highest));
  for (double& w : oracle.weights) w /= sum;
  // A weight is e^(s − m) / Σ: errors of s, of the exponential and of the sum come twice.
  const double relative =
      2 * (std::expm1(score_error) + precision.exp_error) + SumTolerance(visible, 1.0) + 4 * u;
  oracle.weight_tolerance = relative;
  oracle.lse = highest + std::log(sum);
  oracle.lse_tolerance = relative + 4 * u * (std::abs(oracle.lse) + 1);
  oracle.out.resize(head_dim);
  oracle.tolerance.resize(head_dim);
  for (int c = 0; c < head_dim; ++c) {
    double magnitude = 0;
    for (int64_t j = 0; j < visible; ++j) {
      oracle.out[c] += oracle.weights[j] * v(j, c);
      magnitude += oracle.weights[j] * std::abs(double{v(j, c)});
    }
    oracle.tolerance[c] =
        (relative + precision.weight_roundoff) * magnitude + SumTolerance(visible, magnitude);
  }
  return oracle;
}

}  // namespace winnow
