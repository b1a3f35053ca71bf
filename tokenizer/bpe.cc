#include "tokenizer/bpe.h"

#include <queue>

#include "absl/strings/str_cat.h"

namespace winnow {

absl::StatusOr<Bpe> Bpe::Create(const Options& options) {
  Bpe bpe;
  for (int byte = 0; byte < 256; ++byte) {
    auto it = options.vocab.find(std::string(1, static_cast<char>(byte)));
    if (it == options.vocab.end()) {
      return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: model.vocab has no token for byte ", byte));
    }
    bpe.byte_ids_[byte] = it->second;
  }
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    auto a = options.vocab.find(left), b = options.vocab.find(right), merged = options.vocab.find(left + right);
    if (a == options.vocab.end() || b == options.vocab.end() || merged == options.vocab.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.json: model.merges[", rank, "]: a part or the result is not in model.vocab"));
    }
    bpe.merges_.emplace(Key(a->second, b->second), Merge{static_cast<int32_t>(rank), merged->second});
  }
  if (options.ignore_merges) bpe.whole_pieces_ = options.vocab;
  return bpe;
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>& out) const {
  if (!whole_pieces_.empty()) {
    auto it = whole_pieces_.find(std::string(piece));
    if (it != whole_pieces_.end()) {
      out.push_back(it->second);
      return;
    }
  }
  // A linked list of symbols and a heap of candidate merges; a candidate is stale when its symbols have changed.
  struct Symbol {
    int32_t id, previous, next;
  };
  struct Candidate {
    int32_t rank, left;
    int32_t left_id, right_id, merged;
    bool operator<(const Candidate& other) const {  // lowest rank, then leftmost, on top
      return rank != other.rank ? rank > other.rank : left > other.left;
    }
  };
  const auto size = static_cast<int32_t>(piece.size());
  std::vector<Symbol> symbols(size);
  for (int32_t i = 0; i < size; ++i) {
    symbols[i] = {byte_ids_[static_cast<unsigned char>(piece[i])], i - 1, i + 1 < size ? i + 1 : -1};
  }
  std::priority_queue<Candidate> candidates;
  const auto consider = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const int32_t right_id = symbols[symbols[left].next].id;
    auto it = merges_.find(Key(symbols[left].id, right_id));
    if (it != merges_.end()) candidates.push({it->second.rank, left, symbols[left].id, right_id, it->second.merged});
  };
  for (int32_t i = 0; i + 1 < size; ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate c = candidates.top();
    candidates.pop();
    Symbol& left = symbols[c.left];
    if (left.id != c.left_id || left.next < 0 || symbols[left.next].id != c.right_id) continue;
    const int32_t gone = left.next;
    left.id = c.merged;
    left.next = symbols[gone].next;
    symbols[gone].id = -1;
    if (left.next >= 0) symbols[left.next].previous = c.left;
    consider(left.previous);
    consider(c.left);
  }
  for (int32_t i = size > 0 ? 0 : -1; i >= 0; i = symbols[i].next) out.push_back(symbols[i].id);
}

}  // namespace winnow
