#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace winnow {

// Byte-level byte-pair encoding: a piece of text starts as single bytes, and of all neighbours that
// have a merge those of the lowest rank, then the leftmost, are merged, until none have. Immutable;
// thread-safe.
class Bpe {
 public:
  struct Hash {  // lets a string_view find a std::string
    using is_transparent = void;
    size_t operator()(std::string_view bytes) const { return std::hash<std::string_view>()(bytes); }
  };
  using Vocab =
      std::unordered_map<std::string, int32_t, Hash, std::equal_to<>>;  // token's bytes → id

  struct Options {
    Vocab vocab;
    std::vector<std::pair<std::string, std::string>> merges;  // bytes, best first
    bool ignore_merges = false;  // a whole piece that is in the vocabulary is one token
  };
  // INVALID_ARGUMENT: a merge whose parts or result are not in the vocabulary, or a byte without a
  // token.
  static absl::StatusOr<Bpe> Create(Options options);

  // Appends the tokens of one piece. O(n log n).
  // REQUIRES: fewer than 2³¹ bytes.
  void Encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  struct Merge {
    int32_t rank = 0;
    int32_t merged = 0;
  };
  class Merger;
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  Vocab whole_pieces_;                           // with ignore_merges
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by Key of the parts' ids
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace winnow
