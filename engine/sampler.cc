#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/philox.h"

namespace winnow {

absl::StatusOr<int32_t> SampleToken(absl::Span<const float> logits, const SamplingParams& params,
                                    uint64_t index) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i]))
      return absl::InternalError(absl::StrCat("sampling: the logit of token ", i, " is NaN"));
    if (logits[i] > logits[best]) best = i;
  }
  if (logits.empty() || !std::isfinite(logits[best])) {
    return absl::InternalError(
        absl::StrCat("sampling: the highest of ", logits.size(), " logits is not a finite number"));
  }
  if (params.is_greedy()) return static_cast<int32_t>(best);

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const bool cuts =
      params.top_k > 0 || params.top_p < 1.0;  // otherwise any order will do, and sorting is dear
  // Most likely first; equal logits by id, so that every worker cuts alike.
  const auto likelier = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  size_t candidates = order.size();
  if (params.top_k > 0) candidates = std::min<size_t>(candidates, params.top_k);
  if (cuts) std::partial_sort(order.begin(), order.begin() + candidates, order.end(), likelier);
  order.resize(candidates);

  std::vector<double> weights;
  double total = 0.0;
  for (int32_t id : order) {
    weights.push_back(std::exp((double{logits[id]} - logits[best]) / params.temperature));
    total += weights.back();
  }
  double kept = 0.0;
  size_t last = 0;  // likely enough to be drawn
  for (size_t i = 0; i < weights.size(); ++i) {
    kept += weights[i];
    if (weights[i] > 0.0) last = i;
    if (cuts && kept >= params.top_p * total) break;
  }
  double left = PhiloxUniform(params.seed, index) * kept;
  for (size_t i = 0; i < last; ++i) {
    left -= weights[i];
    if (left < 0.0) return order[i];
  }
  return order[last];  // also when rounding left a little over
}

}  // namespace winnow
