#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace winnow {

// 64-bit digest of selected positions, equal on all ranks or the request fails.
uint64_t SelectionDigest(absl::Span<const int32_t> positions);
// INTERNAL: `rank` chose other tokens than rank 0. IsSelectionMismatch tells the error from others.
absl::Status SelectionMismatch(uint64_t digest_of_rank_0, uint64_t digest, int rank);
bool IsSelectionMismatch(const absl::Status& status);

}  // namespace winnow
