#include "tokenizer/utf8.h"

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

bool IsContinuation(unsigned char c) { return (c & 0xC0) == 0x80; }

}  // namespace

int Utf8Length(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const int length = ExpectedLength(byte(at));
  if (length == 0 || at + length > text.size()) return 0;
  for (int i = 1; i < length; ++i) {
    if (!IsContinuation(byte(at + i))) return 0;
  }
  if (length == 3 && byte(at) == 0xE0 && byte(at + 1) < 0xA0) return 0;  // overlong
  if (length == 3 && byte(at) == 0xED && byte(at + 1) > 0x9F) return 0;  // surrogates
  if (length == 4 && byte(at) == 0xF0 && byte(at + 1) < 0x90) return 0;  // overlong
  if (length == 4 && byte(at) == 0xF4 && byte(at + 1) > 0x8F) return 0;  // beyond U+10FFFF
  return length;
}

size_t FirstInvalidUtf8(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const int length = Utf8Length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return at;
}

size_t IncompleteUtf8Tail(const std::string& text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto c = static_cast<unsigned char>(text[text.size() - back]);
    if (IsContinuation(c)) continue;
    return ExpectedLength(c) > static_cast<int>(back) ? back : 0;
  }
  return 0;
}

uint32_t DecodeUtf8(const std::string& text, size_t at, int length) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (length == 1) return lead;
  uint32_t code_point = lead & (0xFF >> (length + 1));
  for (int i = 1; i < length; ++i) code_point = code_point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  return code_point;
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
