#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokenId = 1 << 24;

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError("tokenizer.json: " + what); }

absl::StatusOr<Json> ReadJson(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  std::stringstream text;
  text << file.rdbuf();
  Json json = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": not a JSON object"));
  return json;
}

// A field that must be absent, null or false.
absl::Status CheckOff(const Json& model, const char* field) {
  if (!model.contains(field) || model[field].is_null() || model[field] == false) return absl::OkStatus();
  return Bad(absl::StrCat("model.", field, " ", model[field].dump(), " is not supported"));
}

absl::StatusOr<std::pair<std::string, std::string>> ReadMerge(const Json& merge) {
  std::string left, right;
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    left = merge[0].get<std::string>();
    right = merge[1].get<std::string>();
  } else if (merge.is_string()) {  // the older form "a b"
    const std::string text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space == std::string::npos) return Bad(absl::StrCat("model.merges: ", merge.dump()));
    left = text.substr(0, space);
    right = text.substr(space + 1);
  } else {
    return Bad(absl::StrCat("model.merges: ", merge.dump()));
  }
  const auto left_bytes = ByteLevelToBytes(left), right_bytes = ByteLevelToBytes(right);
  if (!left_bytes || !right_bytes) return Bad(absl::StrCat("model.merges: ", merge.dump(), " is not byte-level"));
  return std::make_pair(*left_bytes, *right_bytes);
}

// Text of a token field that is a string or an object with `content`.
std::string TokenText(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  return json.is_object() ? json.value("content", "") : "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const std::string& model_dir) {
  auto tokenizer = std::unique_ptr<Tokenizer>(new Tokenizer());
  WINNOW_RETURN_IF_ERROR(tokenizer->Load(model_dir));
  WINNOW_RETURN_IF_ERROR(tokenizer->LoadConfig(model_dir));
  return tokenizer;
}

absl::Status Tokenizer::Load(const std::string& model_dir) {
  WINNOW_ASSIGN_OR_RETURN(const Json json, ReadJson(model_dir + "/tokenizer.json"));
  if (json.contains("normalizer") && !json["normalizer"].is_null()) {
    return Bad(absl::StrCat("normalizer ", json["normalizer"].dump(), " is not supported"));
  }
  const Json model = json.value("model", Json::object());
  if (!model.is_object() || model.value("type", "BPE") != "BPE" || !model.contains("vocab") ||
      !model["vocab"].is_object() || !model.contains("merges") || !model["merges"].is_array()) {
    return Bad("model must be a BPE with vocab and merges");
  }
  for (const char* field : {"dropout", "unk_token", "fuse_unk", "byte_fallback"}) {
    WINNOW_RETURN_IF_ERROR(CheckOff(model, field));
  }
  const std::string decoder = json.value("decoder", Json::object()).value("type", "");
  if (decoder != "ByteLevel") return Bad(absl::StrCat("decoder type must be ByteLevel, got '", decoder, "'"));
  WINNOW_ASSIGN_OR_RETURN(pre_tokenizer_, PreTokenizer::Create(json.value("pre_tokenizer", Json())));

  Bpe::Options options;
  options.ignore_merges = model.value("ignore_merges", false);
  const auto add = [&](const Json& id, Token token) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > kMaxTokenId) return false;
    const auto index = id.get<size_t>();
    if (tokens_.size() <= index) tokens_.resize(index + 1);
    tokens_[index] = std::move(token);
    return true;
  };
  for (const auto& [text, id] : model["vocab"].items()) {
    const std::optional<std::string> bytes = ByteLevelToBytes(text);
    if (!add(id, {bytes.value_or(text), false})) return Bad(absl::StrCat("model.vocab: id ", id.dump()));
    if (bytes) options.vocab[*bytes] = id.get<int32_t>();
  }
  for (const Json& merge : model["merges"]) {
    WINNOW_ASSIGN_OR_RETURN(auto pair, ReadMerge(merge));
    options.merges.push_back(std::move(pair));
  }
  WINNOW_ASSIGN_OR_RETURN(bpe_, Bpe::Create(options));

  for (const Json& token : json.value("added_tokens", Json::array())) {
    const std::string content = TokenText(token);
    const bool special = token.is_object() && token.value("special", false);
    if (content.empty() || !token.contains("id") || !add(token["id"], {content, special})) {
      return Bad(absl::StrCat("added_tokens: ", token.dump()));
    }
    for (const char* field : {"single_word", "lstrip", "rstrip"}) {
      if (token.value(field, false)) return Bad(absl::StrCat("added_tokens: ", field, " is not supported"));
    }
    added_[static_cast<unsigned char>(content[0])].push_back({token["id"].get<int32_t>(), content, special});
  }
  for (std::vector<AddedToken>& list : added_) {
    std::sort(list.begin(), list.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
  }
  return absl::OkStatus();
}

absl::Status Tokenizer::LoadConfig(const std::string& model_dir) {
  const absl::StatusOr<Json> json = ReadJson(model_dir + "/tokenizer_config.json");
  if (absl::IsNotFound(json.status())) return absl::OkStatus();
  WINNOW_RETURN_IF_ERROR(json.status());
  bos_token_ = TokenText(json->value("bos_token", Json()));
  eos_token_ = TokenText(json->value("eos_token", Json()));
  if (!json->contains("chat_template") || !(*json)["chat_template"].is_string()) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(chat_template_, ChatTemplate::Create((*json)["chat_template"].get<std::string>()));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodePlain(const std::string& text) const {
  return Encode(text, std::vector<bool>(text.size(), true));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeRaw(const std::string& text) const { return Encode(text, {}); }

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeChat(const std::vector<ChatTurn>& messages) const {
  if (!chat_template_) return absl::FailedPreconditionError("chat: the model has no chat template; use raw text or ids");
  for (size_t i = 0; i < messages.size(); ++i) {
    const size_t invalid = FirstInvalidUtf8(messages[i].content);
    if (invalid == messages[i].content.size()) continue;
    return absl::InvalidArgumentError(absl::StrCat("chat: message ", i, " is not valid UTF-8 at byte ", invalid));
  }
  WINNOW_ASSIGN_OR_RETURN(const std::vector<ChatTemplate::Part> parts,
                          chat_template_->Render(messages, bos_token_, eos_token_));
  std::string text;
  std::vector<bool> literal;
  for (const ChatTemplate::Part& part : parts) {
    text += part.text;
    literal.insert(literal.end(), part.text.size(), part.is_content);
  }
  return Encode(text, literal);
}

const Tokenizer::AddedToken* Tokenizer::AddedTokenAt(const std::string& text, size_t at,
                                                     const std::vector<bool>& literal) const {
  for (const AddedToken& token : added_[static_cast<unsigned char>(text[at])]) {
    const size_t size = token.content.size();
    if (text.compare(at, size, token.content) != 0) continue;
    const bool is_text = !literal.empty() && std::any_of(literal.begin() + at, literal.begin() + at + size,
                                                         [](bool is_literal) { return is_literal; });
    if (!is_text) return &token;
  }
  return nullptr;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(const std::string& text,
                                                       const std::vector<bool>& literal) const {
  if (const size_t invalid = FirstInvalidUtf8(text); invalid != text.size()) {
    return absl::InvalidArgumentError(absl::StrCat("prompt: not valid UTF-8 at byte ", invalid));
  }
  std::vector<int32_t> ids;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = AddedTokenAt(text, at, literal);
    if (token == nullptr) {
      ++at;
      continue;
    }
    WINNOW_RETURN_IF_ERROR(EncodePiece(std::string_view(text).substr(begin, at - begin), ids));
    ids.push_back(token->id);
    at += token->content.size();
    begin = at;
  }
  WINNOW_RETURN_IF_ERROR(EncodePiece(std::string_view(text).substr(begin), ids));
  return ids;
}

absl::Status Tokenizer::EncodePiece(std::string_view text, std::vector<int32_t>& out) const {
  return pre_tokenizer_->Split(text, [&](std::string_view piece) { bpe_->Encode(piece, out); });
}

const std::string& Tokenizer::TokenBytes(int32_t id) const {
  static const std::string none;
  return id >= 0 && id < vocab_size() ? tokens_[id].bytes : none;
}

bool Tokenizer::IsSpecial(int32_t id) const { return id >= 0 && id < vocab_size() && tokens_[id].special; }

std::string Tokenizer::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string out;
  for (int32_t id : ids) {
    if (!skip_special || !IsSpecial(id)) out += TokenBytes(id);
  }
  return out;
}

}  // namespace winnow
