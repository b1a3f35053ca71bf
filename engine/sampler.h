#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "plan/sampling_params.h"

namespace winnow {

// Draws the token of `index` from fp32 logits: greedy when temperature is 0 (ties to the lower id),
// otherwise softmax of logits / temperature, cut to the top_k highest, then to the smallest set
// whose probability reaches top_p, drawn with one uniform number from Philox4x32-10 keyed by (seed,
// index). INTERNAL when a logit is NaN or the highest is not finite (or there are none): never a
// silent choice.
absl::StatusOr<int32_t> SampleToken(absl::Span<const float> logits, const SamplingParams& params,
                                    uint64_t index);

}  // namespace winnow
