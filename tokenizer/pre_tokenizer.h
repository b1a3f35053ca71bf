#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "tokenizer/split_pattern.h"

namespace winnow {

// The pre_tokenizer of a tokenizer.json: cuts text into the pieces that BPE works on. Built: Split
// with a Regex or a String and behaviour Isolated, MergedWithPrevious or MergedWithNext; ByteLevel
// (once, last: what follows would see mapped bytes); Metaspace (once, first, and only text that is
// not byte-level has use for it); sequences of them; none at all.
class PreTokenizer {
 public:
  // Null: text stays in one piece. INVALID_ARGUMENT names a type or an option that is not built.
  static absl::StatusOr<PreTokenizer> Create(const nlohmann::json& json);

  // The vocabulary is written in GPT-2's characters for bytes.
  bool is_byte_level() const { return is_byte_level_; }

  // Every byte of the text (after Metaspace) is in exactly one piece. `is_start`: nothing stands
  // before the text in the prompt. REQUIRES and statuses of SplitPattern::Split.
  absl::Status Split(std::string_view text, bool is_start,
                     const std::function<void(std::string_view)>& piece) const;

 private:
  enum class Behavior { kIsolated, kMergedWithPrevious, kMergedWithNext };
  enum class Prepend { kNever, kFirst, kAlways };
  struct Stage {
    SplitPattern pattern;
    Behavior behavior = Behavior::kIsolated;
  };

  absl::Status Add(const nlohmann::json& json, const std::string& where);
  absl::Status AddByteLevel(const nlohmann::json& json, const std::string& where);
  absl::Status AddMetaspace(const nlohmann::json& json, const std::string& where);
  absl::Status AddSplit(const nlohmann::json& json, const std::string& where);
  absl::Status SplitFrom(size_t stage, std::string_view text,
                         const std::function<void(std::string_view)>& piece) const;
  std::string WithMetaspace(std::string_view text, bool is_start) const;

  std::vector<Stage> stages_;
  bool is_byte_level_ = false;
  std::string space_;  // what Metaspace writes for a blank; empty: no Metaspace
  Prepend prepend_ = Prepend::kNever;
};

}  // namespace winnow
