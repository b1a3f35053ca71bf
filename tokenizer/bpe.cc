#include "tokenizer/bpe.h"

#include <limits>
#include <queue>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {
namespace {

constexpr std::string_view kSpace = "\u2581";  // how SentencePiece writes a blank

bool StartsWithSpace(std::string_view text) { return text.substr(0, kSpace.size()) == kSpace; }
bool EndsWithSpace(std::string_view text) {
  return text.size() >= kSpace.size() && text.substr(text.size() - kSpace.size()) == kSpace;
}

// Up to this many symbols the best pair is found by looking at all of them.
constexpr size_t kShortPiece = 48;

}  // namespace

absl::StatusOr<Bpe> Bpe::Create(Options options) {
  Bpe bpe;
  bpe.has_characters_ = options.byte_fallback.has_value();
  if (bpe.has_characters_) {
    bpe.byte_ids_ = *options.byte_fallback;
    bpe.ascii_ids_.fill(kNone);
    for (const auto& [text, id] : options.vocab) {
      if (text.empty() || static_cast<size_t>(Utf8Length(text, 0)) != text.size()) continue;
      const uint32_t code_point = DecodeUtf8(text, 0, static_cast<int>(text.size()));
      if (code_point < bpe.ascii_ids_.size()) {
        bpe.ascii_ids_[code_point] = id;
      } else {
        bpe.character_ids_[code_point] = id;
      }
    }
  } else {
    for (int byte = 0; byte < 256; ++byte) {
      const auto it = options.vocab.find(std::string(1, static_cast<char>(byte)));
      if (it == options.vocab.end()) {
        return absl::InvalidArgumentError(absl::StrCat("model.vocab: no token for byte ", byte));
      }
      bpe.byte_ids_[byte] = it->second;
    }
  }
  WINNOW_RETURN_IF_ERROR(bpe.AddMerges(options));
  bpe.AddWholePieces(std::move(options));
  return bpe;
}

absl::Status Bpe::AddMerges(const Options& options) {
  const Vocab& vocab = options.vocab;
  merges_.reserve(options.merges.size());
  cuts_before_spaces_ = has_characters_ && !options.ignore_merges;
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    const auto a = vocab.find(left), b = vocab.find(right), merged = vocab.find(left + right);
    if (a == vocab.end() || b == vocab.end() || merged == vocab.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model.merges[", rank, "]: a part or the result is no ordinary token of model.vocab"));
    }
    merges_.emplace(Key(a->second, b->second), Merge{static_cast<int32_t>(rank), merged->second});
    if (StartsWithSpace(right) && !EndsWithSpace(left)) cuts_before_spaces_ = false;
  }
  return absl::OkStatus();
}

// Most words of a text are one token: finding them whole spares the merging. With ignore_merges
// every token of the vocabulary is taken so, otherwise those that merging would arrive at.
void Bpe::AddWholePieces(Options options) {
  if (options.ignore_merges) {
    whole_pieces_ = std::move(options.vocab);
    return;
  }
  std::vector<int32_t> ids;
  Vocab whole;
  for (const auto& [text, id] : options.vocab) {
    ids.clear();
    if (has_characters_ && FirstInvalidUtf8(text) != text.size()) continue;
    EncodeWord(text, ids);
    if (ids.size() == 1 && ids[0] == id) whole.emplace(text, id);
  }
  whole_pieces_ = std::move(whole);
}

// The merging of one piece: a linked list of symbols and a heap of candidates. A candidate whose
// symbols have changed since is stale and dropped when it comes up.
class Bpe::HeapMerger {
 public:
  // Takes the symbols from `begin` on and leaves the merged tokens in their place.
  static void Run(const Bpe& bpe, std::vector<int32_t>& ids, size_t begin) {
    HeapMerger merger(bpe, ids, begin);
    merger.MergeAll();
    ids.resize(begin);
    for (int32_t i = 0; i != kNone; i = merger.symbols_[i].next) {
      ids.push_back(merger.symbols_[i].id);
    }
  }

 private:
  struct Symbol {
    int32_t id, previous, next;
  };
  struct Candidate {
    int32_t rank, left;
    int32_t left_id, right_id, merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the greatest
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };

  HeapMerger(const Bpe& bpe, const std::vector<int32_t>& ids, size_t begin)
      : bpe_(bpe), symbols_(ids.size() - begin) {
    const auto size = static_cast<int32_t>(symbols_.size());
    for (int32_t i = 0; i < size; ++i) {
      symbols_[i] = {ids[begin + i], i - 1, i + 1 < size ? i + 1 : kNone};
    }
    for (int32_t i = 0; i + 1 < size; ++i) Consider(i);
  }

  void MergeAll() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      Symbol& left = symbols_[best.left];
      if (left.id != best.left_id || left.next == kNone ||
          symbols_[left.next].id != best.right_id) {
        continue;
      }
      Symbol& gone = symbols_[left.next];
      left.id = best.merged;
      left.next = gone.next;
      gone.id = kNone;
      if (left.next != kNone) symbols_[left.next].previous = best.left;
      Consider(left.previous);
      Consider(best.left);
    }
  }

  void Consider(int32_t left) {
    if (left == kNone || symbols_[left].next == kNone) return;
    const int32_t left_id = symbols_[left].id, right_id = symbols_[symbols_[left].next].id;
    const auto it = bpe_.merges_.find(Key(left_id, right_id));
    if (it == bpe_.merges_.end()) return;
    candidates_.push({it->second.rank, left, left_id, right_id, it->second.merged});
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
};

// The same for a few symbols: each pair keeps its merge, and a merge renews two of them.
void Bpe::MergeShort(std::vector<int32_t>& ids, size_t begin) const {
  constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
  size_t size = ids.size() - begin;
  int32_t* symbols = ids.data() + begin;
  std::array<Merge, kShortPiece> pairs;
  const auto renew = [&](size_t i) {
    const auto it = merges_.find(Key(symbols[i], symbols[i + 1]));
    pairs[i] = it == merges_.end() ? Merge{kNoRank, kNone} : it->second;
  };
  for (size_t i = 0; i + 1 < size; ++i) renew(i);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNoRank) break;
    symbols[best] = pairs[best].merged;
    for (size_t i = best + 1; i + 1 < size; ++i) {
      symbols[i] = symbols[i + 1];
      pairs[i] = pairs[i + 1];
    }
    --size;
    if (best > 0) renew(best - 1);
    if (best + 1 < size) renew(best);
  }
  ids.resize(begin + size);
}

void Bpe::AppendSymbols(std::string_view piece, std::vector<int32_t>& out) const {
  if (!has_characters_) {
    for (unsigned char byte : piece) out.push_back(byte_ids_[byte]);
    return;
  }
  for (size_t at = 0; at < piece.size();) {
    const int length = Utf8Length(piece, at);
    const uint32_t code_point = DecodeUtf8(piece, at, length);
    int32_t id = kNone;
    if (code_point < ascii_ids_.size()) {
      id = ascii_ids_[code_point];
    } else if (const auto it = character_ids_.find(code_point); it != character_ids_.end()) {
      id = it->second;
    }
    if (id != kNone) {
      out.push_back(id);
    } else {
      for (unsigned char byte : piece.substr(at, length)) out.push_back(byte_ids_[byte]);
    }
    at += length;
  }
}

void Bpe::EncodeWord(std::string_view word, std::vector<int32_t>& out) const {
  if (const auto whole = whole_pieces_.find(word); whole != whole_pieces_.end()) {
    out.push_back(whole->second);
    return;
  }
  const size_t begin = out.size();
  AppendSymbols(word, out);
  if (out.size() - begin < 2) return;
  if (out.size() - begin <= kShortPiece) {
    MergeShort(out, begin);
  } else {
    HeapMerger::Run(*this, out, begin);
  }
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>& out) const {
  if (piece.empty()) return;
  if (!cuts_before_spaces_) return EncodeWord(piece, out);
  // A word begins at each "▁" that no other precedes.
  for (size_t begin = 0; begin < piece.size();) {
    size_t end = begin;
    while (StartsWithSpace(piece.substr(end))) end += kSpace.size();
    end = std::min(piece.find(kSpace, end), piece.size());
    EncodeWord(piece.substr(begin, end - begin), out);
    begin = end;
  }
}

}  // namespace winnow
