#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace winnow {

// Length of the valid UTF-8 character at `at` (1 to 4), or 0: not valid, or cut off by the end.
// This and the next: REQUIRES at < text.size().
int Utf8Length(std::string_view text, size_t at);
// Bytes at `at` that one U+FFFD stands for where no valid character is: as many as could have begun
// one, at least 1 (the Unicode standard's "maximal subpart").
int InvalidUtf8Length(std::string_view text, size_t at);
// Offset of the first byte that is not valid UTF-8; text.size() when all is.
size_t FirstInvalidUtf8(std::string_view text);
// Bytes at the end that begin a character and lack its rest (0 to 3).
size_t IncompleteUtf8Tail(std::string_view text);
// REQUIRES: a valid character at `at`, `length` bytes long.
uint32_t DecodeUtf8(std::string_view text, size_t at, int length);
// At most `max_bytes` of the beginning, whole characters only: for messages.
// REQUIRES: valid UTF-8.
std::string CutUtf8(std::string_view text, size_t max_bytes);
void AppendUtf8(uint32_t code_point, std::string& out);

}  // namespace winnow
