#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "checkpoint/safetensors.h"

namespace winnow {

// Reads the header of a safetensors file: 8 bytes little-endian length n, then n bytes of JSON
// {name: {dtype, shape, data_offsets}}, then the data that the offsets count from. `file` goes into
// TensorInfo and into error texts. Nothing but the header is touched. INVALID_ARGUMENT: see
// Checkpoint::Open.
absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(const std::string& file,
                                                               absl::Span<const std::byte> bytes);

}  // namespace winnow
