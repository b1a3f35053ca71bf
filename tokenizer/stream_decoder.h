#pragma once

#include <cstdint>
#include <string>

#include "tokenizer/tokenizer.h"

namespace winnow {

// Turns token ids into text as they come, never giving half a UTF-8 character. Special tokens give
// no text; bytes that are no UTF-8 give U+FFFD.
class StreamDecoder {
 public:
  // `tokenizer` must outlive it.
  explicit StreamDecoder(const Tokenizer& tokenizer)
      : tokenizer_(tokenizer), blanks_to_drop_(tokenizer.leading_blanks()) {}

  // Text that became certain with this token.
  std::string Add(int32_t id);
  // What is left at the end: nothing, or one U+FFFD for a character that never became whole.
  std::string Flush();

 private:
  std::string Take(size_t size);

  const Tokenizer& tokenizer_;
  int blanks_to_drop_;
  std::string pending_;
};

}  // namespace winnow
