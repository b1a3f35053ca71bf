#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace winnow {

// GPT-2's map of bytes to printable characters, in which byte-level vocabularies are written.

// UTF-8 of the character for each byte of `bytes`.
std::string BytesToByteLevel(std::string_view bytes);
// The inverse; nothing when a character stands for no byte.
std::optional<std::string> ByteLevelToBytes(std::string_view text);

}  // namespace winnow
