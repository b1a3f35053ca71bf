#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace winnow {

// The byte that a token of SentencePiece's form "<0x0A>" stands for; nothing for other text.
std::optional<unsigned char> ParseByteToken(const std::string& text);

// The decoder of a tokenizer.json: what the text of a token in the vocabulary stands for. Built:
// ByteLevel; and of SentencePiece's kind Replace with a String, ByteFallback, Fuse and Strip at the
// start, alone or in a sequence. Immutable; thread-safe.
class TokenDecoder {
 public:
  // INVALID_ARGUMENT names a type or an option that is not built.
  static absl::StatusOr<TokenDecoder> Create(const nlohmann::json& json);

  bool is_byte_level() const { return is_byte_level_; }
  std::string Bytes(const std::string& token) const;
  // Blanks that are dropped where a decoded text begins.
  int leading_blanks() const { return leading_blanks_; }

 private:
  absl::Status Add(const nlohmann::json& json, const std::string& where);
  absl::Status AddReplace(const nlohmann::json& json, const std::string& where);
  absl::Status AddStrip(const nlohmann::json& json, const std::string& where);

  bool is_byte_level_ = false;
  bool has_byte_fallback_ = false;
  int leading_blanks_ = 0;
  std::vector<std::pair<std::string, std::string>> replacements_;
};

}  // namespace winnow
