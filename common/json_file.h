#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace winnow {

// Reads a JSON object. NOT_FOUND: no such file. INVALID_ARGUMENT: cannot be read, larger than 256
// MiB, not JSON, nested deeper than 64 levels, or not an object; the text names the file.
absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& path);

}  // namespace winnow
