#include "tokenizer/tokenizer_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json_field.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokenId = (1 << 21) - 1;  // several times the largest vocabularies

absl::Status Bad(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<int32_t> ReadId(const Json& id, const std::string& where) {
  if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId) {
    return Unexpected(where, absl::StrCat("an id of 0 to ", kMaxTokenId), id);
  }
  return id.get<int32_t>();
}

// Reads one tokenizer.json, part by part.
class FileReader {
 public:
  explicit FileReader(const Json& json) : json_(json), model_(Field(json, "model")) {}

  absl::StatusOr<TokenizerFile> Read() {
    WINNOW_RETURN_IF_ERROR(CheckTypes());
    WINNOW_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                            PreTokenizer::Create(Field(json_, "pre_tokenizer")));
    WINNOW_RETURN_IF_ERROR(ReadVocab());
    WINNOW_RETURN_IF_ERROR(ReadMerges());
    WINNOW_RETURN_IF_ERROR(ReadAddedTokens());
    WINNOW_ASSIGN_OR_RETURN(options_.ignore_merges,
                            BoolField(model_, "ignore_merges", false, "model.ignore_merges"));
    WINNOW_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Create(std::move(options_)));
    return TokenizerFile{std::move(bpe), std::move(pre_tokenizer), std::move(added_tokens_),
                         std::move(tokens_)};
  }

 private:
  absl::Status CheckTypes() const {
    if (const Json& normalizer = Field(json_, "normalizer"); !normalizer.is_null()) {
      return Unexpected("normalizer", "null", normalizer);
    }
    if (!model_.is_object()) return Unexpected("model", "an object", model_);
    const Json& type = Field(model_, "type");  // older files lack it
    if (!type.is_null() && type != "BPE") return Unexpected("model.type", "BPE", type);
    for (const char* field : {"dropout", "unk_token", "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", "byte_fallback"}) {
      const Json& value = Field(model_, field);
      if (value.is_null() || value == false || value == "" || value == 0.0) continue;
      return Unexpected(absl::StrCat("model.", field), "nothing (it is not supported)", value);
    }
    const Json& decoder = Field(json_, "decoder");
    const Json& decoder_type = Field(decoder, "type");
    if (decoder_type != "ByteLevel") {
      return Unexpected("decoder.type", "ByteLevel",
                        decoder_type.is_null() ? decoder : decoder_type);
    }
    return absl::OkStatus();
  }

  TokenizerFile::Token& TokenAt(int32_t id) {
    if (tokens_.size() <= static_cast<size_t>(id)) tokens_.resize(id + 1);
    return tokens_[id];
  }

  absl::Status ReadVocab() {
    const Json& vocab = Field(model_, "vocab");
    if (!vocab.is_object()) return Unexpected("model.vocab", "an object", vocab);
    options_.vocab.reserve(vocab.size());
    for (const auto& [text, value] : vocab.items()) {
      const std::string where = absl::StrCat("model.vocab[", Quote(text), "]");
      if (text.empty()) return Bad(where, "an empty token");
      WINNOW_ASSIGN_OR_RETURN(const int32_t id, ReadId(value, where));
      TokenizerFile::Token& token = TokenAt(id);
      if (!token.bytes.empty()) return Bad(where, absl::StrCat("id ", id, " is taken"));
      std::optional<std::string> bytes = ByteLevelToBytes(text);
      token.bytes = bytes ? *bytes : text;
      if (bytes) options_.vocab.emplace(*std::move(bytes), id);
    }
    return absl::OkStatus();
  }

  absl::Status ReadMerges() {
    const Json& merges = Field(model_, "merges");
    if (!merges.is_array()) return Unexpected("model.merges", "a list", merges);
    options_.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const Json& merge = merges[i];
      std::string left, right;
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else if (merge.is_string()) {  // the older form "a b"
        const std::string both = merge.get<std::string>();
        const size_t space = both.find(' ');
        left = both.substr(0, space);
        if (space != std::string::npos) right = both.substr(space + 1);
      }
      std::optional<std::string> left_bytes = ByteLevelToBytes(left);
      std::optional<std::string> right_bytes = ByteLevelToBytes(right);
      if (left.empty() || right.empty() || !left_bytes || !right_bytes) {
        return Unexpected(absl::StrCat("model.merges[", i, "]"), "two byte-level tokens", merge);
      }
      options_.merges.emplace_back(*std::move(left_bytes), *std::move(right_bytes));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens() {
    const Json& list = Field(json_, "added_tokens");
    if (!list.is_null() && !list.is_array()) return Unexpected("added_tokens", "a list", list);
    for (size_t i = 0; i < list.size(); ++i) {
      WINNOW_RETURN_IF_ERROR(ReadAddedToken(list[i], absl::StrCat("added_tokens[", i, "]")));
    }
    return absl::OkStatus();
  }
  absl::Status ReadAddedToken(const Json& json, const std::string& where) {
    WINNOW_ASSIGN_OR_RETURN(const std::string content,
                            StringField(json, "content", "", where + ".content"));
    if (content.empty()) return Unexpected(where, "an object with content", json);
    WINNOW_ASSIGN_OR_RETURN(const int32_t id, ReadId(Field(json, "id"), where + ".id"));
    WINNOW_ASSIGN_OR_RETURN(const bool is_special,
                            BoolField(json, "special", false, where + ".special"));
    for (const char* field : {"single_word", "lstrip", "rstrip"}) {
      const std::string at = absl::StrCat(where, ".", field);
      WINNOW_ASSIGN_OR_RETURN(const bool is_set, BoolField(json, field, false, at));
      if (is_set) return Unexpected(at, "false (it is not supported)", json);
    }
    // The vocabulary may hold it too, but then under the same id.
    const Json& in_vocab = Field(Field(model_, "vocab"), content.c_str());
    TokenizerFile::Token& token = TokenAt(id);
    if (in_vocab.is_null() ? !token.bytes.empty() : in_vocab != id) {
      return Bad(where, absl::StrCat("id ", id, " of ", Quote(content), " is another token's"));
    }
    if (!added_tokens_.Add(content, id)) return Bad(where, Quote(content) + " is there twice");
    // Plain text must never give a control token, not even by a merge or as a whole piece.
    if (is_special) options_.vocab.erase(token.bytes);
    token = {content, is_special};
    return absl::OkStatus();
  }

  const Json& json_;
  const Json& model_;
  Bpe::Options options_;
  AddedTokens added_tokens_;
  std::vector<TokenizerFile::Token> tokens_;
};

// Text of a token field: a string, or an object with `content`.
absl::StatusOr<std::string> ReadToken(const Json& json, const char* name) {
  const Json& value = Field(json, name);
  if (value.is_object()) return StringField(value, "content", "", absl::StrCat(name, ".content"));
  return StringField(json, name, "", name);
}

absl::StatusOr<TokenizerConfig> ParseConfig(const Json& json) {
  TokenizerConfig config;
  WINNOW_ASSIGN_OR_RETURN(config.bos_token, ReadToken(json, "bos_token"));
  WINNOW_ASSIGN_OR_RETURN(config.eos_token, ReadToken(json, "eos_token"));
  WINNOW_ASSIGN_OR_RETURN(std::string text,
                          StringField(json, "chat_template", "", "chat_template"));
  if (!text.empty()) config.chat_template = std::move(text);
  return config;
}

}  // namespace

absl::StatusOr<TokenizerFile> ReadTokenizerFile(const std::string& path) {
  const absl::StatusOr<Json> json = ReadJsonObject(path);
  if (!json.ok()) return InFile(path, json.status());
  absl::StatusOr<TokenizerFile> file = FileReader(*json).Read();
  if (!file.ok()) return InFile(path, file.status());
  return file;
}

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& path) {
  const absl::StatusOr<Json> json = ReadJsonObject(path);
  if (!json.ok()) return InFile(path, json.status());
  absl::StatusOr<TokenizerConfig> config = ParseConfig(*json);
  if (!config.ok()) return InFile(path, config.status());
  return config;
}

}  // namespace winnow
