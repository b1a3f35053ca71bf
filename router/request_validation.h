#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "plan/sampling_params.h"
#include "plan/selection_config.h"
#include "winnow/v1/generation.pb.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// The checks of a request that need nothing but the request and what the workers say of the model.
// Pure. Every refusal is INVALID_ARGUMENT with a sentence that says what, expected and got, but for
// explain (PERMISSION_DENIED).

inline constexpr int kDefaultMaxTokens = 256;
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopBytes = 256;  // of each
inline constexpr int kMaxStopIds = 64;
inline constexpr int kMaxRequestIdBytes = 128;  // printable ASCII: it goes into logs and keys
inline constexpr int kMaxProtectedSpans = 1024;

// The size of the request's message.
absl::Status CheckSize(int64_t bytes, int64_t max_bytes);
// What can be said before the prompt is turned into tokens: that there is one, and the request's
// name.
absl::Status CheckEnvelope(const v1::GenerateRequest& request);

// `seed` is used when the request has none.
absl::StatusOr<SamplingParams> ResolveSampling(const v1::SamplingOptions& options,
                                               const v1::WorkerInfo& model, uint64_t seed);

// The profile with the request's wishes, and `window_offset` in place of the profile's if it is
// given.
absl::StatusOr<SelectionConfig> ResolveSelection(const v1::SelectionOptions& options,
                                                 const v1::WorkerInfo& model, bool explain_allowed,
                                                 std::optional<int> window_offset);

// 1 ≤ tokens, tokens + max_tokens − 1 ≤ context, every id in the vocabulary.
absl::Status CheckPrompt(const std::vector<int32_t>& ids, const SamplingParams& sampling,
                         const v1::WorkerInfo& model);

}  // namespace winnow
