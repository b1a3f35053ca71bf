#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace winnow {

// A compiled split pattern (PCRE2, UTF and Unicode classes, JIT where there is one). Thread-safe.
class SplitPattern {
 public:
  // INVALID_ARGUMENT: the pattern does not compile; says where.
  static absl::StatusOr<SplitPattern> CreateRegex(const std::string& pattern);
  // The pattern is the text itself.
  static absl::StatusOr<SplitPattern> CreateLiteral(const std::string& text);

  // Calls `piece` for each match and each gap between matches, in order.
  // REQUIRES: `text` is valid UTF-8. INVALID_ARGUMENT: the match limit was reached; says where.
  absl::Status Split(std::string_view text,
                     const std::function<void(std::string_view)>& piece) const;

 private:
  static absl::StatusOr<SplitPattern> Compile(const std::string& pattern, uint32_t options);
  std::shared_ptr<void> code_;  // pcre2_code
};

// The pre_tokenizer of a tokenizer.json: cuts text into the pieces that BPE works on. Built: Split
// with a Regex or a String and behaviour Isolated, ByteLevel (once, last: what follows would see
// mapped bytes), and sequences of them.
class PreTokenizer {
 public:
  // INVALID_ARGUMENT names a type or an option that is not built.
  static absl::StatusOr<PreTokenizer> Create(const nlohmann::json& json);

  // Every byte is in exactly one piece. REQUIRES and statuses of SplitPattern::Split.
  absl::Status Split(std::string_view text,
                     const std::function<void(std::string_view)>& piece) const;

 private:
  absl::Status Add(const nlohmann::json& json, const std::string& where);
  absl::Status AddByteLevel(const nlohmann::json& json, const std::string& where);
  absl::Status AddSplit(const nlohmann::json& json, const std::string& where);
  absl::Status SplitFrom(size_t stage, std::string_view text,
                         const std::function<void(std::string_view)>& piece) const;

  std::vector<SplitPattern> stages_;
  bool has_byte_level_ = false;
};

}  // namespace winnow
