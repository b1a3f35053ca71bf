#include "tokenizer/tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {
namespace {

absl::Status CheckUtf8(const std::string& text, const std::string& what) {
  const size_t invalid = FirstInvalidUtf8(text);
  if (invalid == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": expected UTF-8, got 0x",
                                                 absl::Hex(static_cast<uint8_t>(text[invalid])),
                                                 " at byte ", invalid));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(const std::string& model_dir) {
  WINNOW_ASSIGN_OR_RETURN(TokenizerFile file, ReadTokenizerFile(model_dir + "/tokenizer.json"));
  WINNOW_ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(model_dir));
  absl::StatusOr<ChatTemplate> chat_template = absl::FailedPreconditionError(
      "chat: the model has no chat template; send raw text or token ids");
  if (config.chat_template) {
    chat_template = ChatTemplate::Create(*config.chat_template);
    if (!chat_template.ok()) {
      chat_template = absl::FailedPreconditionError(
          absl::StrCat("chat: the model's chat template is not supported (",
                       chat_template.status().message(), "); send raw text or token ids"));
    }
  }
  return std::unique_ptr<Tokenizer>(
      new Tokenizer(std::move(file), std::move(config), std::move(chat_template)));
}

Tokenizer::Tokenizer(TokenizerFile file, TokenizerConfig config,
                     absl::StatusOr<ChatTemplate> chat_template)
    : file_(std::move(file)),
      config_(std::move(config)),
      chat_template_(std::move(chat_template)),
      chat_suffix_tokens_(CountChatSuffix()) {}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodePlain(const std::string& text) const {
  WINNOW_RETURN_IF_ERROR(CheckUtf8(text, "text"));
  std::vector<int32_t> ids;
  WINNOW_RETURN_IF_ERROR(EncodeRun(text, /*is_start=*/true, ids));
  return ids;
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeRaw(const std::string& text) const {
  WINNOW_RETURN_IF_ERROR(CheckUtf8(text, "raw text"));
  return EncodeMarked({TextPart{text}});
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeChat(
    const std::vector<ChatTurn>& messages) const {
  WINNOW_RETURN_IF_ERROR(chat_template_.status());
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string message = absl::StrCat("chat: message ", i);
    WINNOW_RETURN_IF_ERROR(CheckUtf8(messages[i].role, message + ": role"));
    WINNOW_RETURN_IF_ERROR(CheckUtf8(messages[i].content, message + ": content"));
  }
  WINNOW_ASSIGN_OR_RETURN(const MarkedText text, Render(messages));
  return EncodeMarked(text);
}

absl::StatusOr<MarkedText> Tokenizer::Render(const std::vector<ChatTurn>& messages) const {
  absl::StatusOr<MarkedText> text =
      chat_template_->Render(messages, config_.bos_token, config_.eos_token, absl::Now());
  if (text.ok()) return text;
  return absl::InvalidArgumentError(absl::StrCat("chat: ", text.status().message()));
}

int Tokenizer::CountChatSuffix() const {
  if (!chat_template_.ok()) return 0;
  const absl::StatusOr<MarkedText> text = Render({{"user", "x"}});
  if (!text.ok()) return 0;  // the template wants more than one message
  MarkedText suffix;
  for (const TextPart& part : *text) {
    if (part.is_client()) {
      suffix.clear();
    } else {
      suffix.push_back(part);
    }
  }
  const absl::StatusOr<std::vector<int32_t>> ids = EncodeMarked(suffix);
  return ids.ok() ? static_cast<int>(ids->size()) : 0;
}

// Cuts at the added tokens in the template's parts. The text between two of them is one run,
// whatever its origins: merges and split patterns see it as a whole.
absl::StatusOr<std::vector<int32_t>> Tokenizer::EncodeMarked(const MarkedText& text) const {
  std::vector<int32_t> ids;
  std::string run;
  bool is_start = true;
  for (const TextPart& part : text) {
    const std::string_view source = part.text;
    size_t done = 0;
    for (size_t at = part.is_client() ? source.size() : 0; at < source.size();) {
      const auto match = file_.added_tokens.LongestPrefix(source.substr(at));
      if (!match) {
        ++at;
        continue;
      }
      run += source.substr(done, at - done);
      WINNOW_RETURN_IF_ERROR(EncodeRun(run, is_start, ids));
      run.clear();
      is_start = false;
      ids.push_back(match->id);
      done = at = at + match->length;
    }
    run += source.substr(done);
  }
  WINNOW_RETURN_IF_ERROR(EncodeRun(run, is_start, ids));
  return ids;
}

absl::Status Tokenizer::EncodeRun(std::string_view run, bool is_start,
                                  std::vector<int32_t>& ids) const {
  const auto encode = [&](std::string_view piece) { file_.bpe.Encode(piece, ids); };
  if (file_.normalizer.is_identity()) return file_.pre_tokenizer.Split(run, is_start, encode);
  WINNOW_ASSIGN_OR_RETURN(const std::string normal, file_.normalizer.Apply(run));
  return file_.pre_tokenizer.Split(normal, is_start, encode);
}

const std::string& Tokenizer::TokenBytes(int32_t id) const {
  static const std::string none;
  return id >= 0 && id < vocab_size() ? file_.tokens[id].bytes : none;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && file_.tokens[id].is_special;
}

std::string_view Tokenizer::DropBlanks(std::string_view bytes, int& left) {
  while (left > 0 && !bytes.empty()) {
    const bool is_blank = bytes.front() == ' ';
    left = is_blank ? left - 1 : 0;
    if (is_blank) bytes.remove_prefix(1);
  }
  return bytes;
}

std::string Tokenizer::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string out;
  int blanks = leading_blanks();
  for (int32_t id : ids) {
    if (!skip_special || !IsSpecial(id)) out += DropBlanks(TokenBytes(id), blanks);
  }
  return out;
}

}  // namespace winnow
