#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/marked_text.h"
#include "tokenizer/tokenizer_file.h"

namespace winnow {

// Text to token ids and back, as a Hugging Face tokenizer.json says (byte-level BPE). Immutable;
// thread-safe.
class Tokenizer {
 public:
  // Reads MODEL_DIR/tokenizer.json and, for the chat template, tokenizer_config.json, which may be
  // absent. NOT_FOUND: no tokenizer.json. INVALID_ARGUMENT: malformed, or something that is not
  // supported; the text names the file, the field and its value.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const std::string& model_dir);

  // All three: INVALID_ARGUMENT: not UTF-8, with the byte's offset; or a piece that takes the split
  // pattern too long.

  // Special tokens in `text` are plain text.
  absl::StatusOr<std::vector<int32_t>> EncodePlain(const std::string& text) const;
  // Added tokens are parsed, the longest at each position; nothing is added.
  absl::StatusOr<std::vector<int32_t>> EncodeRaw(const std::string& text) const;
  // The chat template's rendering with a generation prompt. Roles and contents are plain text;
  // added tokens come from the template alone. FAILED_PRECONDITION: the model has no template.
  // INVALID_ARGUMENT: a message that the template does not use (its role is unknown), by index.
  absl::StatusOr<std::vector<int32_t>> EncodeChat(const std::vector<ChatTurn>& messages) const;

  // Bytes of a token; empty for an id that is none. Added tokens give their text.
  const std::string& TokenBytes(int32_t id) const;
  // A control token, whose text is not part of an answer.
  bool IsSpecial(int32_t id) const;
  // Bytes of all tokens. May be invalid UTF-8 when ids are cut inside a character.
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const;

  // Ids are 0 to vocab_size() − 1; some may be unused.
  int32_t vocab_size() const { return static_cast<int32_t>(file_.tokens.size()); }

 private:
  Tokenizer(TokenizerFile file, TokenizerConfig config, std::optional<ChatTemplate> chat_template);
  absl::StatusOr<std::vector<int32_t>> EncodeMarked(const MarkedText& text) const;
  // Appends the tokens of text between added tokens.
  absl::Status EncodeRun(std::string_view run, std::vector<int32_t>& ids) const;

  TokenizerFile file_;
  TokenizerConfig config_;
  std::optional<ChatTemplate> chat_template_;
};

}  // namespace winnow
