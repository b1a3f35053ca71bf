#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace winnow {

// Byte-pair encoding: a piece of text starts as single symbols, and of all neighbours that have a
// merge those of the lowest rank, then the leftmost, are merged, until none have. Symbols are bytes
// (byte-level vocabularies), or characters (SentencePiece's), of which those without a token become
// the tokens of their bytes. Immutable; thread-safe.
class Bpe {
 public:
  struct Hash {  // lets a string_view find a std::string
    using is_transparent = void;
    size_t operator()(std::string_view text) const {
      return absl::Hash<absl::string_view>()(absl::string_view(text.data(), text.size()));
    }
  };
  using Vocab = absl::flat_hash_map<std::string, int32_t, Hash, std::equal_to<>>;  // text → id
  using ByteIds = std::array<int32_t, 256>;

  struct Options {
    Vocab vocab;
    std::vector<std::pair<std::string, std::string>> merges;  // best first
    bool ignore_merges = false;  // a whole piece that is in the vocabulary is one token
    // Symbols are characters, and these the tokens of bytes. Without it symbols are bytes, each of
    // which is in the vocabulary.
    std::optional<ByteIds> byte_fallback;
  };
  // INVALID_ARGUMENT: a merge whose parts or result are not in the vocabulary, or a byte without a
  // token.
  static absl::StatusOr<Bpe> Create(Options options);

  // Appends the tokens of one piece. O(n log n).
  // REQUIRES: fewer than 2³¹ bytes; valid UTF-8 where symbols are characters.
  void Encode(std::string_view piece, std::vector<int32_t>& out) const;

 private:
  static constexpr int32_t kNone = -1;
  struct Merge {
    int32_t rank = 0;
    int32_t merged = 0;
  };
  class HeapMerger;
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  absl::Status AddMerges(const Options& options);
  void AddWholePieces(Options options);
  void EncodeWord(std::string_view word, std::vector<int32_t>& out) const;
  void AppendSymbols(std::string_view piece, std::vector<int32_t>& out) const;
  void MergeShort(std::vector<int32_t>& ids, size_t begin) const;

  // Pieces that are known to be one token.
  Vocab whole_pieces_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by Key of the parts' ids
  ByteIds byte_ids_{};
  bool has_characters_ = false;
  std::array<int32_t, 128> ascii_ids_{};                  // kNone: no token
  absl::flat_hash_map<uint32_t, int32_t> character_ids_;  // by code point, beyond ASCII
  bool cuts_before_spaces_ = false;  // no merge joins a symbol to a "▁" that follows it
};

}  // namespace winnow
