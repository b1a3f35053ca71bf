#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

namespace winnow {

// A compiled pattern of a tokenizer.json (PCRE2, UTF and Unicode classes, JIT where there is one).
// Thread-safe.
class SplitPattern {
 public:
  // INVALID_ARGUMENT: the pattern does not compile; says where.
  static absl::StatusOr<SplitPattern> CreateRegex(const std::string& pattern);
  // The pattern is the text itself.
  static absl::StatusOr<SplitPattern> CreateLiteral(const std::string& text);
  // {"Regex": …} or {"String": …}. INVALID_ARGUMENT names `where`.
  static absl::StatusOr<SplitPattern> Create(const nlohmann::json& json, const std::string& where);

  using Piece = std::function<void(std::string_view text, bool is_match)>;
  // Calls `piece` for each match and each gap between matches, in order.
  // REQUIRES: `text` is valid UTF-8. INVALID_ARGUMENT: the match limit was reached; says where.
  absl::Status Split(std::string_view text, const Piece& piece) const;

 private:
  static absl::StatusOr<SplitPattern> Compile(const std::string& pattern, uint32_t options);
  std::shared_ptr<void> code_;  // pcre2_code
};

}  // namespace winnow
