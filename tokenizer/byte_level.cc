#include "tokenizer/byte_level.h"

#include <array>
#include <cstdint>
#include <map>

#include "common/utf8.h"

namespace winnow {
namespace {

// Printable Latin-1 bytes stand for themselves; the others get U+0100, U+0101, … in order.
std::array<uint32_t, 256> MakeCodePoints() {
  std::array<uint32_t, 256> code_points{};
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    code_points[byte] = printable ? byte : next++;
  }
  return code_points;
}

const std::array<uint32_t, 256>& CodePoints() {
  static const std::array<uint32_t, 256> code_points = MakeCodePoints();
  return code_points;
}

}  // namespace

std::string BytesToByteLevel(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) AppendUtf8(CodePoints()[byte], out);
  return out;
}

std::optional<std::string> ByteLevelToBytes(std::string_view text) {
  static const std::map<uint32_t, unsigned char> byte_of = [] {
    std::map<uint32_t, unsigned char> map;
    for (int byte = 0; byte < 256; ++byte)
      map[CodePoints()[byte]] = static_cast<unsigned char>(byte);
    return map;
  }();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const int length = Utf8Length(text, at);
    if (length == 0) return std::nullopt;
    auto it = byte_of.find(DecodeUtf8(text, at, length));
    if (it == byte_of.end()) return std::nullopt;
    out.push_back(static_cast<char>(it->second));
    at += length;
  }
  return out;
}

}  // namespace winnow
