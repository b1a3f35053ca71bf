#include "tokenizer/pre_tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tokenizer/json_field.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// ByteLevel's own pattern (GPT-2), used when use_regex is set.
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr char kMetaspace[] = "\u2581";

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const Json& json) {
  PreTokenizer out;
  if (!json.is_null()) {
    WINNOW_RETURN_IF_ERROR(ForEachPart(
        json, "pretokenizers", "pre_tokenizer",
        [&](const Json& part, const std::string& where) { return out.Add(part, where); }));
  }
  if (out.is_byte_level_ && !out.space_.empty()) {
    return Unexpected("pre_tokenizer", "either ByteLevel or Metaspace", json);
  }
  return out;
}

absl::Status PreTokenizer::Add(const Json& json, const std::string& where) {
  const Json& type = Field(json, "type");
  if (is_byte_level_) return Unexpected(where, "nothing after ByteLevel", json);
  if (type == "ByteLevel") return AddByteLevel(json, where);
  if (type == "Metaspace") return AddMetaspace(json, where);
  if (type == "Split") return AddSplit(json, where);
  return Unexpected(where + ".type", "Sequence, Split, Metaspace or ByteLevel", type);
}

absl::Status PreTokenizer::AddByteLevel(const Json& json, const std::string& where) {
  WINNOW_ASSIGN_OR_RETURN(const bool add_prefix_space,
                          BoolField(json, "add_prefix_space", true, where + ".add_prefix_space"));
  if (add_prefix_space) {
    return Unexpected(where + ".add_prefix_space", "false", Field(json, "add_prefix_space"));
  }
  WINNOW_ASSIGN_OR_RETURN(const bool use_regex,
                          BoolField(json, "use_regex", true, where + ".use_regex"));
  is_byte_level_ = true;
  if (!use_regex) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(SplitPattern pattern, SplitPattern::CreateRegex(kGpt2Pattern));
  stages_.push_back({std::move(pattern)});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddMetaspace(const Json& json, const std::string& where) {
  if (!stages_.empty() || !space_.empty()) {
    return Unexpected(where, "Metaspace first and once", json);
  }
  WINNOW_ASSIGN_OR_RETURN(space_,
                          StringField(json, "replacement", kMetaspace, where + ".replacement"));
  if (space_.empty()) return Unexpected(where + ".replacement", "a character", "");
  // Files from before prepend_scheme say add_prefix_space.
  WINNOW_ASSIGN_OR_RETURN(const bool add_prefix_space,
                          BoolField(json, "add_prefix_space", true, where + ".add_prefix_space"));
  WINNOW_ASSIGN_OR_RETURN(const std::string scheme,
                          StringField(json, "prepend_scheme", add_prefix_space ? "always" : "never",
                                      where + ".prepend_scheme"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return Unexpected(where + ".prepend_scheme", "always, first or never", scheme);
  }
  prepend_ = scheme == "always"  ? Prepend::kAlways
             : scheme == "first" ? Prepend::kFirst
                                 : Prepend::kNever;
  WINNOW_ASSIGN_OR_RETURN(const bool split, BoolField(json, "split", true, where + ".split"));
  if (!split) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(SplitPattern pattern, SplitPattern::CreateLiteral(space_));
  stages_.push_back({std::move(pattern), Behavior::kMergedWithNext});
  return absl::OkStatus();
}

absl::Status PreTokenizer::AddSplit(const Json& json, const std::string& where) {
  const Json& behavior = Field(json, "behavior");
  Stage stage;
  if (behavior == "MergedWithPrevious") {
    stage.behavior = Behavior::kMergedWithPrevious;
  } else if (behavior == "MergedWithNext") {
    stage.behavior = Behavior::kMergedWithNext;
  } else if (behavior != "Isolated") {
    return Unexpected(where + ".behavior", "Isolated, MergedWithPrevious or MergedWithNext",
                      behavior);
  }
  WINNOW_ASSIGN_OR_RETURN(const bool invert, BoolField(json, "invert", false, where + ".invert"));
  if (invert) return Unexpected(where + ".invert", "false", true);
  WINNOW_ASSIGN_OR_RETURN(stage.pattern,
                          SplitPattern::Create(Field(json, "pattern"), where + ".pattern"));
  stages_.push_back(std::move(stage));
  return absl::OkStatus();
}

std::string PreTokenizer::WithMetaspace(std::string_view text, bool is_start) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  const bool begins_so = text.substr(0, 1) == " " || text.substr(0, space_.size()) == space_;
  const bool prepends = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && is_start);
  if (prepends && !begins_so) out = space_;
  for (char c : text) {
    if (c == ' ') {
      out += space_;
    } else {
      out += c;
    }
  }
  return out;
}

absl::Status PreTokenizer::Split(std::string_view text, bool is_start,
                                 const std::function<void(std::string_view)>& piece) const {
  if (text.empty() || space_.empty()) return SplitFrom(0, text, piece);
  return SplitFrom(0, WithMetaspace(text, is_start), piece);
}

absl::Status PreTokenizer::SplitFrom(size_t stage, std::string_view text,
                                     const std::function<void(std::string_view)>& piece) const {
  if (text.empty()) return absl::OkStatus();
  if (stage == stages_.size()) {
    piece(text);
    return absl::OkStatus();
  }
  absl::Status status;
  const auto next = [&](std::string_view part) {
    if (status.ok() && !part.empty()) status = SplitFrom(stage + 1, part, piece);
  };
  const Behavior behavior = stages_[stage].behavior;
  // The text that a later match, or a gap, may still be joined to; it ends where that begins.
  std::string_view held;
  WINNOW_RETURN_IF_ERROR(
      stages_[stage].pattern.Split(text, [&](std::string_view part, bool is_match) {
        if (behavior == Behavior::kIsolated) return next(part);
        const bool joins = is_match == (behavior == Behavior::kMergedWithPrevious);
        if (joins && !held.empty()) {
          next({held.data(), held.size() + part.size()});
          held = {};
        } else {
          next(held);
          held = part;
          if (joins) {  // there was nothing to join
            next(held);
            held = {};
          }
        }
      }));
  next(held);
  return status;
}

}  // namespace winnow
