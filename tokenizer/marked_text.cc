#include "tokenizer/marked_text.h"

#include <algorithm>

namespace winnow {

void Append(const TextPart& part, MarkedText& out) {
  if (!out.empty() && out.back().origin == part.origin) {
    out.back().text += part.text;
  } else {
    out.push_back(part);
  }
}

void Append(const MarkedText& text, MarkedText& out) {
  for (const TextPart& part : text) Append(part, out);
}

size_t TextSize(const MarkedText& text) {
  size_t size = 0;
  for (const TextPart& part : text) size += part.text.size();
  return size;
}

MarkedText SliceText(const MarkedText& text, size_t begin, size_t end) {
  MarkedText out;
  size_t at = 0;  // of the part's beginning
  for (const TextPart& part : text) {
    const size_t from = std::max(begin, at), to = std::min(end, at + part.text.size());
    const bool is_empty = part.text.empty() && begin <= at && at <= end;
    if (from < to) out.push_back({part.text.substr(from - at, to - from), part.origin});
    if (is_empty) out.push_back(part);
    at += part.text.size();
  }
  if (!out.empty()) return out;
  at = 0;
  for (const TextPart& part : text) {
    at += part.text.size();
    if (begin <= at) return {{"", part.origin}};
  }
  return out;
}

std::string PlainText(const MarkedText& text) {
  std::string out;
  for (const TextPart& part : text) out += part.text;
  return out;
}

}  // namespace winnow
