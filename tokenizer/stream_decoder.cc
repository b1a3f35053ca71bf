#include "tokenizer/stream_decoder.h"

#include <utility>

#include "tokenizer/utf8.h"

namespace winnow {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string StreamDecoder::Add(int32_t id) {
  if (tokenizer_.IsSpecial(id)) return "";
  pending_ += tokenizer_.TokenBytes(id);
  return TakeWhole(pending_.size() - IncompleteUtf8Tail(pending_));
}

std::string StreamDecoder::Flush() { return TakeWhole(pending_.size()); }

// The first `size` pending bytes as valid UTF-8; each byte that fits nowhere becomes U+FFFD.
std::string StreamDecoder::TakeWhole(size_t size) {
  std::string out;
  const std::string head = pending_.substr(0, size);
  for (size_t at = 0; at < head.size();) {
    const int length = Utf8Length(head, at);
    if (length == 0) {
      out += kReplacement;
      ++at;
    } else {
      out.append(head, at, length);
      at += length;
    }
  }
  pending_.erase(0, size);
  return out;
}

}  // namespace winnow
