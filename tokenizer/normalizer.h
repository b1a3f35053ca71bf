#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "tokenizer/split_pattern.h"

namespace winnow {

// The normalizer of a tokenizer.json: rewrites text before it is cut into pieces. Built: NFC, NFD,
// NFKC, NFKD (Unicode, by utf8proc), Prepend, Replace with a String or a Regex, and sequences of
// them. Immutable; thread-safe.
class Normalizer {
 public:
  // Null: text stays as it is. INVALID_ARGUMENT names a type or an option that is not built.
  static absl::StatusOr<Normalizer> Create(const nlohmann::json& json);

  bool is_identity() const { return steps_.empty(); }
  // Empty text stays empty. REQUIRES: valid UTF-8. INVALID_ARGUMENT: a pattern takes too long.
  absl::StatusOr<std::string> Apply(std::string_view text) const;

 private:
  enum class Kind { kNfc, kNfd, kNfkc, kNfkd, kPrepend, kReplace };
  struct Step {
    Kind kind = Kind::kNfc;
    std::string content;  // prepended, or what replaces
    SplitPattern pattern;
  };

  absl::Status Add(const nlohmann::json& json, const std::string& where);
  static absl::StatusOr<std::string> ApplyStep(const Step& step, std::string text);

  std::vector<Step> steps_;
};

}  // namespace winnow
