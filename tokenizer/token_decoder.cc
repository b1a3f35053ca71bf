#include "tokenizer/token_decoder.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json_field.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr char kExpected[] = "Sequence, ByteLevel, Replace, ByteFallback, Fuse or Strip";

// The digit's value, or -1.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<unsigned char> ParseByteToken(const std::string& text) {
  if (text.size() != 6 || text.compare(0, 3, "<0x") != 0 || text[5] != '>') return std::nullopt;
  const int high = HexDigit(text[3]), low = HexDigit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

absl::StatusOr<TokenDecoder> TokenDecoder::Create(const Json& json) {
  TokenDecoder out;
  WINNOW_RETURN_IF_ERROR(ForEachPart(
      json, "decoders", "decoder",
      [&](const Json& part, const std::string& where) { return out.Add(part, where); }));
  return out;
}

absl::Status TokenDecoder::Add(const Json& json, const std::string& where) {
  const Json& type = Field(json, "type");
  if (is_byte_level_) return Unexpected(where, "nothing after ByteLevel", json);
  if (type == "ByteLevel") {
    if (has_byte_fallback_ || !replacements_.empty()) {
      return Unexpected(where, "nothing before ByteLevel", json);
    }
    is_byte_level_ = true;
    return absl::OkStatus();
  }
  if (type == "Fuse") return absl::OkStatus();  // tokens are always joined here
  if (type == "ByteFallback") {
    has_byte_fallback_ = true;
    return absl::OkStatus();
  }
  if (type == "Replace") return AddReplace(json, where);
  if (type == "Strip") return AddStrip(json, where);
  return Unexpected(where + ".type", kExpected, type.is_null() ? json : type);
}

absl::Status TokenDecoder::AddReplace(const Json& json, const std::string& where) {
  const Json& pattern = Field(Field(json, "pattern"), "String");
  if (!pattern.is_string() || pattern == "") {
    return Unexpected(where + ".pattern", "a String", Field(json, "pattern"));
  }
  WINNOW_ASSIGN_OR_RETURN(const std::string content,
                          StringField(json, "content", "", where + ".content"));
  replacements_.emplace_back(pattern.get<std::string>(), content);
  return absl::OkStatus();
}

absl::Status TokenDecoder::AddStrip(const Json& json, const std::string& where) {
  const Json& content = Field(json, "content");
  if (content != " ") return Unexpected(where + ".content", "a blank", content);
  const Json& start = Field(json, "start");
  if (!start.is_number_integer() || start < 0 || start > 1000) {
    return Unexpected(where + ".start", "a number of blanks", start);
  }
  const Json& stop = Field(json, "stop");
  if (stop != 0) return Unexpected(where + ".stop", "0 (streams have no end to strip)", stop);
  leading_blanks_ += start.get<int>();
  return absl::OkStatus();
}

std::string TokenDecoder::Bytes(const std::string& token) const {
  if (is_byte_level_) return ByteLevelToBytes(token).value_or(token);
  if (has_byte_fallback_) {
    if (const auto byte = ParseByteToken(token)) return std::string(1, static_cast<char>(*byte));
  }
  std::string out = token;
  for (const auto& [from, to] : replacements_) absl::StrReplaceAll({{from, to}}, &out);
  return out;
}

}  // namespace winnow
