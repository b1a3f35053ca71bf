#pragma once

#include <optional>
#include <string>

namespace winnow {

// All bytes of a file; nothing when it cannot be opened.
std::optional<std::string> ReadFile(const std::string& path);

}  // namespace winnow
