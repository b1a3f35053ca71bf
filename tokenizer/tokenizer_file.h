#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/pre_tokenizer.h"

namespace winnow {

// What a Hugging Face tokenizer.json says, checked. Read: normalizer, pre_tokenizer, model (BPE
// over bytes, or over characters with byte fallback), added_tokens, decoder. post_processor,
// truncation and padding are not applied by anybody here: prompts get only what their text or the
// chat template has.
struct TokenizerFile {
  struct Token {
    std::string bytes;        // empty: no token has this id
    bool is_special = false;  // control, not text
  };

  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  AddedTokens added_tokens;
  std::vector<Token> tokens;  // by id
  int leading_blanks = 0;     // dropped where a decoded text begins
};

// NOT_FOUND: no such file. INVALID_ARGUMENT: malformed, or something that is not supported; the
// text names the file, the field and its value.
absl::StatusOr<TokenizerFile> ReadTokenizerFile(const std::string& path);

// What is used of tokenizer_config.json and chat_template.jinja.
struct TokenizerConfig {
  std::string bos_token, eos_token;  // empty: none
  std::optional<std::string> chat_template;
};

// Both files of the folder may be absent. Of several templates the one named "default" counts; a
// chat_template.jinja stands above tokenizer_config.json's. INVALID_ARGUMENT as above.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir);

}  // namespace winnow
