#include "tokenizer/stream_decoder.h"

#include "common/utf8.h"

namespace winnow {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD

}  // namespace

std::string StreamDecoder::Add(int32_t id) {
  if (tokenizer_.IsSpecial(id)) return "";
  pending_ += Tokenizer::DropBlanks(tokenizer_.TokenBytes(id), blanks_to_drop_);
  return Take(pending_.size() - IncompleteUtf8Tail(pending_));
}

std::string StreamDecoder::Flush() { return Take(pending_.size()); }

// Removes the first `size` pending bytes and gives them as valid UTF-8.
std::string StreamDecoder::Take(size_t size) {
  const std::string head = pending_.substr(0, size);
  pending_.erase(0, size);
  std::string out;
  for (size_t at = 0; at < head.size();) {
    const int length = Utf8Length(head, at);
    if (length == 0) {
      out += kReplacement;
      at += InvalidUtf8Length(head, at);
    } else {
      out.append(head, at, length);
      at += length;
    }
  }
  return out;
}

}  // namespace winnow
