#include "common/utf8.h"

#include <algorithm>

namespace winnow {
namespace {

int ExpectedLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// The second byte's range is narrower after some leads: no overlong forms, no surrogates, nothing
// beyond U+10FFFF.
bool IsSecond(unsigned char lead, unsigned char c) {
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  return c >= low && c <= high;
}

// Bytes from `at` on that fit the character begun there, whole or not; 0 for a byte that begins
// none.
int FittingBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const int length = ExpectedLength(byte(at));
  if (length <= 1 || at + 1 >= text.size() || !IsSecond(byte(at), byte(at + 1))) {
    return std::min(length, 1);
  }
  int fitting = 2;
  while (fitting < length && at + fitting < text.size() && (byte(at + fitting) & 0xC0) == 0x80) {
    ++fitting;
  }
  return fitting;
}

}  // namespace

int Utf8Length(std::string_view text, size_t at) {
  const int length = ExpectedLength(static_cast<unsigned char>(text[at]));
  return FittingBytes(text, at) == length ? length : 0;
}

int InvalidUtf8Length(std::string_view text, size_t at) {
  return std::max(1, FittingBytes(text, at));
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const int length = Utf8Length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

size_t IncompleteUtf8Tail(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t at = text.size() - back;
    const auto lead = static_cast<unsigned char>(text[at]);
    if (static_cast<size_t>(ExpectedLength(lead)) > back &&
        static_cast<size_t>(FittingBytes(text, at)) == back) {
      return back;
    }
  }
  return 0;
}

uint32_t DecodeUtf8(std::string_view text, size_t at, int length) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (length == 1) return lead;
  uint32_t code_point = lead & (0xFF >> (length + 1));
  for (int i = 1; i < length; ++i)
    code_point = code_point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  return code_point;
}

std::string CutUtf8(std::string_view text, size_t max_bytes) {
  std::string head(text.substr(0, max_bytes));
  head.resize(head.size() - IncompleteUtf8Tail(head));
  return head;
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    out.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3F)));
    out.push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

}  // namespace winnow
