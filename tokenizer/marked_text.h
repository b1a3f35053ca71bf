#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace winnow {

// A stretch of text with its origin. Only text of the model's template may become special tokens;
// text of a client never does.
struct TextPart {
  static constexpr int32_t kTemplate = -2;
  static constexpr int32_t kClient = -1;  // of a client, but no message's content (a role)

  std::string text;
  int32_t origin = kTemplate;  // 0 and up: the content of the message with this index

  bool is_client() const { return origin != kTemplate; }
};

using MarkedText = std::vector<TextPart>;

// Appends, joining neighbours of one origin. Parts without text stay: they show that a message's
// empty content was used.
void Append(const TextPart& part, MarkedText& out);
void Append(const MarkedText& text, MarkedText& out);
size_t TextSize(const MarkedText& text);
// Bytes [begin, end), marked as they were; when that is nothing, one empty part with the origin of
// the text there. REQUIRES: begin ≤ end ≤ TextSize(text).
MarkedText SliceText(const MarkedText& text, size_t begin, size_t end);
std::string PlainText(const MarkedText& text);

}  // namespace winnow
