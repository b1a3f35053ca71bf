#pragma once

#include "kernels/cuda_types.cuh"
#include "kernels/window_scores.h"

namespace winnow {

constexpr int kScoreKeys = 128;  // of a block, in both versions of the kernels

// Running maximum and sum of exp(s − max): a part of a softmax's denominator.
struct ScorePart {
  float max, sum;
};
__device__ inline ScorePart Merge(ScorePart a, ScorePart b) {
  const float max = fmaxf(a.max, b.max);
  if (max == -INFINITY) return {max, a.sum + b.sum};  // a NaN in a sum stays
  return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

// On tensor cores (window_scores_mma.cu): bf16, head sizes of 64 and 128. The first writes
// parts [q_heads][chunks][window], the second sums [q_heads][E].
bool HasWindowScoresMma(const WindowScoresParams& p);
void DenominatorPartsMma(const WindowScoresParams& p, ScorePart* parts, CudaStream stream);
void WeightSumsMma(const WindowScoresParams& p, float* sums, CudaStream stream);  // needs p.lse

}  // namespace winnow
