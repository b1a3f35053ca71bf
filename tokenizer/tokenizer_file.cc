#include "tokenizer/tokenizer_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/json_file.h"
#include "common/read_file.h"
#include "common/status_macros.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json_field.h"
#include "tokenizer/token_decoder.h"

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
    WINNOW_RETURN_IF_ERROR(CheckModel());
    TokenizerFile file;
    WINNOW_ASSIGN_OR_RETURN(file.normalizer, Normalizer::Create(Field(json_, "normalizer")));
    WINNOW_ASSIGN_OR_RETURN(file.pre_tokenizer,
                            PreTokenizer::Create(Field(json_, "pre_tokenizer")));
    WINNOW_ASSIGN_OR_RETURN(decoder_, TokenDecoder::Create(Field(json_, "decoder")));
    if (file.pre_tokenizer.is_byte_level() != decoder_.is_byte_level()) {
      return Unexpected("decoder", "ByteLevel exactly where the pre_tokenizer has it",
                        Field(json_, "decoder"));
    }
    WINNOW_RETURN_IF_ERROR(ReadVocab());
    if (!decoder_.is_byte_level()) WINNOW_RETURN_IF_ERROR(ReadByteFallback());
    WINNOW_RETURN_IF_ERROR(ReadMerges());
    WINNOW_RETURN_IF_ERROR(ReadAddedTokens(file.normalizer));
    WINNOW_ASSIGN_OR_RETURN(options_.ignore_merges,
                            BoolField(model_, "ignore_merges", false, "model.ignore_merges"));
    WINNOW_ASSIGN_OR_RETURN(file.bpe, Bpe::Create(std::move(options_)));
    file.added_tokens = std::move(added_tokens_);
    file.tokens = std::move(tokens_);
    file.leading_blanks = decoder_.leading_blanks();
    return file;
  }

 private:
  absl::Status CheckModel() const {
    if (!model_.is_object()) return Unexpected("model", "an object", model_);
    const Json& type = Field(model_, "type");  // older files lack it
    if (!type.is_null() && type != "BPE") return Unexpected("model.type", "BPE", type);
    // unk_token and fuse_unk need no check: where every byte has a token, no text is unknown.
    for (const char* field : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = Field(model_, field);
      if (value.is_null() || value == "" || value == 0.0) continue;
      return Unexpected(absl::StrCat("model.", field), "nothing (it is not supported)", value);
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
      token.bytes = decoder_.Bytes(text);
      if (std::optional<std::string> symbols = Symbols(text)) {
        options_.vocab.emplace(*std::move(symbols), id);
      }
    }
    return absl::OkStatus();
  }

  // A token's text as BPE sees it; nothing: no text gives it.
  std::optional<std::string> Symbols(const std::string& text) const {
    return decoder_.is_byte_level() ? ByteLevelToBytes(text) : text;
  }

  absl::Status ReadByteFallback() {
    WINNOW_ASSIGN_OR_RETURN(const bool has_fallback,
                            BoolField(model_, "byte_fallback", false, "model.byte_fallback"));
    if (!has_fallback) {
      return Unexpected("model.byte_fallback", "true where the pre_tokenizer has no ByteLevel",
                        Field(model_, "byte_fallback"));
    }
    Bpe::ByteIds ids;
    ids.fill(-1);
    for (const auto& [text, id] : options_.vocab) {
      if (const auto byte = ParseByteToken(text)) ids[*byte] = id;
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (ids[byte] < 0) {
        return Bad("model.vocab", absl::StrCat("byte_fallback, but no token for byte ", byte));
      }
    }
    options_.byte_fallback = ids;
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
      std::optional<std::string> left_symbols = Symbols(left), right_symbols = Symbols(right);
      if (left.empty() || right.empty() || !left_symbols || !right_symbols) {
        return Unexpected(absl::StrCat("model.merges[", i, "]"), "two tokens", merge);
      }
      options_.merges.emplace_back(*std::move(left_symbols), *std::move(right_symbols));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedTokens(const Normalizer& normalizer) {
    const Json& list = Field(json_, "added_tokens");
    if (!list.is_null() && !list.is_array()) return Unexpected("added_tokens", "a list", list);
    for (size_t i = 0; i < list.size(); ++i) {
      WINNOW_RETURN_IF_ERROR(
          ReadAddedToken(list[i], normalizer, absl::StrCat("added_tokens[", i, "]")));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAddedToken(const Json& json, const Normalizer& normalizer,
                              const std::string& where) {
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
    // Such a token is sought in normalized text, here in the text as it came: the same as long as
    // normalizing leaves the token alone.
    WINNOW_ASSIGN_OR_RETURN(const bool is_normalized,
                            BoolField(json, "normalized", false, where + ".normalized"));
    if (is_normalized) {
      WINNOW_ASSIGN_OR_RETURN(const std::string normal, normalizer.Apply(content));
      if (normal != content) {
        return Unexpected(where + ".normalized", "false where the normalizer changes the token",
                          json);
      }
    }
    // The vocabulary may hold it too, but then under the same id.
    const Json& in_vocab = Field(Field(model_, "vocab"), content.c_str());
    TokenizerFile::Token& token = TokenAt(id);
    if (in_vocab.is_null() ? !token.bytes.empty() : in_vocab != id) {
      return Bad(where, absl::StrCat("id ", id, " of ", Quote(content), " is another token's"));
    }
    if (!added_tokens_.Add(content, id)) return Bad(where, Quote(content) + " is there twice");
    // Plain text must never give a control token, not even by a merge or as a whole piece.
    if (const auto symbols = Symbols(content); is_special && symbols) {
      options_.vocab.erase(*symbols);
    }
    token = {content, is_special};
    return absl::OkStatus();
  }

  const Json& json_;
  const Json& model_;
  TokenDecoder decoder_;
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

// A text, or a list of {name, template}.
absl::StatusOr<std::optional<std::string>> ReadTemplate(const Json& json) {
  if (json.is_null() || json == "") return std::nullopt;
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_array()) return Unexpected("chat_template", "a text or a list", json);
  for (size_t i = 0; i < json.size(); ++i) {
    const std::string where = absl::StrCat("chat_template[", i, "]");
    WINNOW_ASSIGN_OR_RETURN(const std::string name,
                            StringField(json[i], "name", "", where + ".name"));
    if (name != "default") continue;
    return StringField(json[i], "template", "", where + ".template");
  }
  return Unexpected("chat_template", "one with the name 'default' among them", json);
}

absl::StatusOr<TokenizerConfig> ParseConfig(const Json& json) {
  TokenizerConfig config;
  WINNOW_ASSIGN_OR_RETURN(config.bos_token, ReadToken(json, "bos_token"));
  WINNOW_ASSIGN_OR_RETURN(config.eos_token, ReadToken(json, "eos_token"));
  WINNOW_ASSIGN_OR_RETURN(config.chat_template, ReadTemplate(Field(json, "chat_template")));
  return config;
}

}  // namespace

absl::StatusOr<TokenizerFile> ReadTokenizerFile(const std::string& path) {
  WINNOW_ASSIGN_OR_RETURN(const Json json, ReadJsonObject(path));
  absl::StatusOr<TokenizerFile> file = FileReader(json).Read();
  if (!file.ok()) return InFile(path, file.status());
  return file;
}

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir) {
  const std::string path = model_dir + "/tokenizer_config.json";
  TokenizerConfig config;
  if (const absl::StatusOr<Json> json = ReadJsonObject(path); json.ok()) {
    absl::StatusOr<TokenizerConfig> parsed = ParseConfig(*json);
    if (!parsed.ok()) return InFile(path, parsed.status());
    config = *std::move(parsed);
  } else if (!absl::IsNotFound(json.status())) {
    return json.status();
  }
  if (auto text = ReadFile(model_dir + "/chat_template.jinja")) {
    config.chat_template = *std::move(text);
  }
  return config;
}

}  // namespace winnow
