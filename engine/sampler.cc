#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/philox.h"

namespace winnow {

absl::StatusOr<int32_t> SampleToken(absl::Span<const float> logits, const SamplingParams& params, uint64_t index) {
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) return absl::InternalError(absl::StrCat("sampling: the logit of token ", i, " is NaN"));
    if (logits[i] > logits[best]) best = i;
  }
  if (params.temperature <= 0.0) return static_cast<int32_t>(best);

  // Most likely first; equal logits by id, so that every worker cuts alike.
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  size_t candidates = order.size();
  if (params.top_k > 0) candidates = std::min<size_t>(candidates, params.top_k);
  std::partial_sort(order.begin(), order.begin() + candidates, order.end(), likelier);
  order.resize(candidates);

  std::vector<double> weights;
  double total = 0.0;
  for (int32_t id : order) {
    weights.push_back(std::exp((double{logits[id]} - logits[best]) / params.temperature));
    total += weights.back();
  }
  double kept = 0.0;
  for (size_t i = 0; i < weights.size(); ++i) {
    kept += weights[i];
    if (kept >= params.top_p * total) {
      weights.resize(i + 1);
      break;
    }
  }
  double left = PhiloxUniform(params.seed, index) * kept;
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0.0) return order[i];
  }
  return order[weights.size() - 1];
}

}  // namespace winnow
