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

// Checks of a request against the model as its workers describe it. Pure. Every refusal is
// INVALID_ARGUMENT with a text that says what was expected and what came, except for explain
// (PERMISSION_DENIED).

inline constexpr int kDefaultMaxTokens = 256;
inline constexpr int kMaxStopStrings = 16;
inline constexpr int kMaxStopBytes = 256;  // of each
inline constexpr int kMaxStopIds = 64;
inline constexpr int kMaxRequestIdBytes = 128;  // printable ASCII: it goes into logs and keys
inline constexpr int kMaxProtectedSpans = 1024;

// Checks the size of the request's message.
absl::Status CheckSize(int64_t bytes, int64_t max_bytes);
// Checks what needs no tokens: the request id, and that there is a prompt.
absl::Status CheckEnvelope(const v1::GenerateRequest& request);

// The request's sampling with defaults filled in; `seed` is used when the request sets none.
absl::StatusOr<SamplingParams> ResolveSampling(const v1::SamplingOptions& options,
                                               const v1::WorkerInfo& model, uint64_t seed);

// The profile with the request's overrides, and with `window_offset` instead of the profile's if
// given.
absl::StatusOr<SelectionConfig> ResolveSelection(const v1::SelectionOptions& options,
                                                 const v1::WorkerInfo& model, bool explain_allowed,
                                                 std::optional<int> window_offset);

// Checks that 1 ≤ tokens, tokens + max_tokens − 1 ≤ context, and every id is in the vocabulary.
absl::Status CheckPrompt(const std::vector<int32_t>& ids, const SamplingParams& sampling,
                         const v1::WorkerInfo& model);

}  // namespace winnow
