#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace winnow {

// Length of the valid UTF-8 character at `at` (1 to 4), or 0: not valid, or cut off by the end.
int Utf8Length(const std::string& text, size_t at);
// Offset of the first byte that is not valid UTF-8; text.size() when all is.
size_t FirstInvalidUtf8(const std::string& text);
// Bytes at the end that begin a character and lack its rest (0 to 3).
size_t IncompleteUtf8Tail(const std::string& text);
// REQUIRES: a valid character at `at`, `length` bytes long.
uint32_t DecodeUtf8(const std::string& text, size_t at, int length);
void AppendUtf8(uint32_t code_point, std::string& out);

}  // namespace winnow
