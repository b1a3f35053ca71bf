#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// Byte-level byte-pair encoding: a piece of text starts as single bytes, and the pair of neighbours with the lowest rank is
// merged until none is left. Immutable; thread-safe.
class Bpe {
 public:
  struct Options {
    std::unordered_map<std::string, int32_t> vocab;  // token's bytes → id
    std::vector<std::pair<std::string, std::string>> merges;  // bytes, best first
    bool ignore_merges = false;  // a whole piece that is in the vocabulary is one token
  };
  // INVALID_ARGUMENT: a merge whose parts or result are not in the vocabulary, or a byte without a token.
  static absl::StatusOr<Bpe> Create(const Options& options);

  // Appends the tokens of one piece. O(n log n).
  void Encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t merged = 0;
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  std::unordered_map<std::string, int32_t> whole_pieces_;  // with ignore_merges
  std::unordered_map<uint64_t, Merge> merges_;             // by Key of the parts' ids
  int32_t byte_ids_[256] = {};
};

}  // namespace winnow
