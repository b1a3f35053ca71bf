#include "tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

// ByteLevel's own pattern (GPT-2), used when use_regex is set.
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr uint32_t kMatchLimit = 10'000'000;  // steps of one match; ordinary patterns need a few per byte

absl::Status NotBuilt(const std::string& field, const nlohmann::json& value) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", field, " ", value.dump(), " is not supported"));
}

std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

struct MatchState {
  explicit MatchState(const pcre2_code* code)
      : data(pcre2_match_data_create_from_pattern(code, nullptr)), context(pcre2_match_context_create(nullptr)) {
    pcre2_set_match_limit(context, kMatchLimit);
  }
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
  pcre2_match_data* data;
  pcre2_match_context* context;
};

}  // namespace

absl::StatusOr<SplitPattern> SplitPattern::Create(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json: split pattern, at offset ", offset, ": ", PcreMessage(error)));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without one it is interpreted
  SplitPattern out;
  out.code_ = std::shared_ptr<void>(code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  return out;
}

absl::Status SplitPattern::Split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  MatchState state(code);
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.data);
  size_t at = 0;  // everything before is in a piece
  size_t search = 0;
  uint32_t options = PCRE2_NO_UTF_CHECK;
  while (search < text.size()) {
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), search, options,
                                  state.data, state.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer: splitting text at byte ", search, ": ", PcreMessage(found)));
    }
    if (range[1] == range[0]) {  // an empty match splits nothing
      ++search;
      while (search < text.size() && (static_cast<unsigned char>(text[search]) & 0xC0) == 0x80) ++search;
      continue;
    }
    if (range[0] > at) piece(text.substr(at, range[0] - at));
    piece(text.substr(range[0], range[1] - range[0]));
    at = search = range[1];
  }
  if (at < text.size()) piece(text.substr(at));
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const nlohmann::json& json) {
  PreTokenizer out;
  WINNOW_RETURN_IF_ERROR(out.Add(json));
  return out;
}

absl::Status PreTokenizer::Add(const nlohmann::json& json) {
  const std::string type = json.is_object() ? json.value("type", "") : "";
  if (type == "Sequence" && json.contains("pretokenizers") && json["pretokenizers"].is_array()) {
    for (const nlohmann::json& part : json["pretokenizers"]) WINNOW_RETURN_IF_ERROR(Add(part));
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    if (json.value("add_prefix_space", false)) return NotBuilt("pre_tokenizer.add_prefix_space", true);
    if (!json.value("use_regex", true)) return absl::OkStatus();
    WINNOW_ASSIGN_OR_RETURN(SplitPattern pattern, SplitPattern::Create(kGpt2Pattern));
    stages_.push_back(std::move(pattern));
    return absl::OkStatus();
  }
  if (type != "Split") return NotBuilt("pre_tokenizer", json);
  if (json.value("behavior", "") != "Isolated" || json.value("invert", false)) {
    return NotBuilt("pre_tokenizer.behavior", json);
  }
  const nlohmann::json pattern = json.value("pattern", nlohmann::json());
  if (!pattern.is_object() || !pattern.contains("Regex") || !pattern["Regex"].is_string()) {
    return NotBuilt("pre_tokenizer.pattern", pattern);
  }
  WINNOW_ASSIGN_OR_RETURN(SplitPattern compiled, SplitPattern::Create(pattern["Regex"].get<std::string>()));
  stages_.push_back(std::move(compiled));
  return absl::OkStatus();
}

absl::Status PreTokenizer::Split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  return SplitFrom(0, text, piece);
}

absl::Status PreTokenizer::SplitFrom(size_t stage, std::string_view text,
                                     const std::function<void(std::string_view)>& piece) const {
  if (text.empty()) return absl::OkStatus();
  if (stage == stages_.size()) {
    piece(text);
    return absl::OkStatus();
  }
  absl::Status status;
  WINNOW_RETURN_IF_ERROR(stages_[stage].Split(text, [&](std::string_view part) {
    if (status.ok()) status = SplitFrom(stage + 1, part, piece);
  }));
  return status;
}

}  // namespace winnow
