#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace winnow {

// Turns token ids into text as they come, without ever giving half a UTF-8 character. Special tokens give no text.
class StreamDecoder {
 public:
  // `tokenizer` must outlive it.
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // Text that became certain with this token.
  std::string Add(int32_t id);
  // What is left at the end; a character that never became whole gives U+FFFD.
  std::string Flush();

 private:
  std::string TakeWhole(size_t size);
  const Tokenizer& tokenizer_;
  std::string pending_;
};

}  // namespace winnow
