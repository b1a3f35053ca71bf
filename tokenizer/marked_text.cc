#include "tokenizer/marked_text.h"

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

std::string PlainText(const MarkedText& text) {
  std::string out;
  for (const TextPart& part : text) out += part.text;
  return out;
}

}  // namespace winnow
