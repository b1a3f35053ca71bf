#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/bpe.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/pre_tokenizer.h"

namespace winnow {

// Text to token ids and back, as a Hugging Face tokenizer.json says (byte-level BPE). Immutable; thread-safe.
class Tokenizer {
 public:
  // Reads MODEL_DIR/tokenizer.json and, for the chat template, tokenizer_config.json. NOT_FOUND: no tokenizer.json.
  // INVALID_ARGUMENT: malformed, or something that is not supported; the text names the field and its value.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const std::string& model_dir);

  // Special tokens in `text` are plain text. INVALID_ARGUMENT: not UTF-8, with the byte's offset.
  absl::StatusOr<std::vector<int32_t>> EncodePlain(const std::string& text) const;
  // Added tokens are parsed; nothing is added.
  absl::StatusOr<std::vector<int32_t>> EncodeRaw(const std::string& text) const;
  // The chat template's rendering with a generation prompt. Contents cannot form special tokens.
  // FAILED_PRECONDITION: the model has no template. INVALID_ARGUMENT: a role that it does not know.
  absl::StatusOr<std::vector<int32_t>> EncodeChat(const std::vector<ChatTurn>& messages) const;

  // Bytes of a token; empty for an id that is none. Special tokens give their text.
  const std::string& TokenBytes(int32_t id) const;
  bool IsSpecial(int32_t id) const;
  // Bytes of all, special tokens left out unless wanted. May be invalid UTF-8 when ids are cut inside a character.
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const;

  int32_t vocab_size() const { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct AddedToken {
    int32_t id = 0;
    std::string content;
    bool special = false;
  };
  struct Token {
    std::string bytes;
    bool special = false;
  };
  Tokenizer() = default;
  absl::Status Load(const std::string& model_dir);
  absl::Status LoadConfig(const std::string& model_dir);
  // `literal[i]`: byte i is plain text and part of no added token. Empty: all bytes may be.
  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text, const std::vector<bool>& literal) const;
  absl::Status EncodePiece(std::string_view text, std::vector<int32_t>& out) const;
  const AddedToken* AddedTokenAt(const std::string& text, size_t at, const std::vector<bool>& literal) const;

  std::optional<Bpe> bpe_;
  std::optional<PreTokenizer> pre_tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::string bos_token_, eos_token_;
  std::vector<AddedToken> added_[256];  // by first byte, longest first
  std::vector<Token> tokens_;           // by id
};

}  // namespace winnow
