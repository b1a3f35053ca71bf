#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/marked_text.h"
#include "tokenizer/tokenizer_file.h"

namespace winnow {

// Text to token ids and back, as a Hugging Face tokenizer.json says: byte-level BPE, or
// SentencePiece's kind with byte fallback. Immutable; thread-safe.
class Tokenizer {
 public:
  // Reads MODEL_DIR/tokenizer.json and, for the chat template, tokenizer_config.json and
  // chat_template.jinja, which may be absent. NOT_FOUND: no tokenizer.json. INVALID_ARGUMENT:
  // malformed, or something that is not supported; the text names the file, the field and its
  // value.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const std::string& model_dir);

  // All three: INVALID_ARGUMENT: not UTF-8, with the byte's offset; or a piece that takes the split
  // pattern too long.

  // Special tokens in `text` are plain text.
  absl::StatusOr<std::vector<int32_t>> EncodePlain(const std::string& text) const;
  // Added tokens are parsed, the longest at each position; nothing is added.
  absl::StatusOr<std::vector<int32_t>> EncodeRaw(const std::string& text) const;
  // The chat template's rendering with a generation prompt. Roles and contents are plain text;
  // added tokens come from the template alone. FAILED_PRECONDITION: chat_status().
  // INVALID_ARGUMENT: a message that the template does not use (its role is unknown), by index.
  absl::StatusOr<std::vector<int32_t>> EncodeChat(const std::vector<ChatTurn>& messages) const;

  // FAILED_PRECONDITION: the model has no chat template, or one that is not supported; says what of
  // it.
  absl::Status chat_status() const { return chat_template_.status(); }
  // Tokens that the template adds after the last message's content: the same at every chat's end. 0
  // without a template.
  int chat_suffix_tokens() const { return chat_suffix_tokens_; }

  // Bytes of a token; empty for an id that is none. Added tokens give their text.
  const std::string& TokenBytes(int32_t id) const;
  // A control token, whose text is not part of an answer.
  bool IsSpecial(int32_t id) const;
  // Blanks that a decoder drops where a text begins, and a token's bytes without those of them that
  // are `left`, which counts down; none is left after the first other byte.
  static std::string_view DropBlanks(std::string_view bytes, int& left);
  int leading_blanks() const { return file_.leading_blanks; }
  // Bytes of all tokens, less the leading blanks. May be invalid UTF-8 when ids are cut inside a
  // character.
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const;

  // Ids are 0 to vocab_size() − 1; some may be unused.
  int32_t vocab_size() const { return static_cast<int32_t>(file_.tokens.size()); }

 private:
  Tokenizer(TokenizerFile file, TokenizerConfig config, absl::StatusOr<ChatTemplate> chat_template);
  absl::StatusOr<MarkedText> Render(const std::vector<ChatTurn>& messages) const;
  int CountChatSuffix() const;
  absl::StatusOr<std::vector<int32_t>> EncodeMarked(const MarkedText& text) const;
  // Appends the tokens of text between added tokens; `is_start`: the prompt begins with it.
  absl::Status EncodeRun(std::string_view run, bool is_start, std::vector<int32_t>& ids) const;

  TokenizerFile file_;
  TokenizerConfig config_;
  absl::StatusOr<ChatTemplate> chat_template_;
  int chat_suffix_tokens_ = 0;
};

}  // namespace winnow
