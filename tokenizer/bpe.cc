#include "tokenizer/bpe.h"

#include <queue>

#include "absl/strings/str_cat.h"

namespace winnow {

absl::StatusOr<Bpe> Bpe::Create(Options options) {
  Bpe bpe;
  const Vocab& vocab = options.vocab;
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = vocab.find(std::string(1, static_cast<char>(byte)));
    if (it == vocab.end()) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab: no token for byte ", byte));
    }
    bpe.byte_ids_[byte] = it->second;
  }
  bpe.merges_.reserve(options.merges.size());
  for (size_t rank = 0; rank < options.merges.size(); ++rank) {
    const auto& [left, right] = options.merges[rank];
    const auto a = vocab.find(left), b = vocab.find(right), merged = vocab.find(left + right);
    if (a == vocab.end() || b == vocab.end() || merged == vocab.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model.merges[", rank, "]: a part or the result is no ordinary token of model.vocab"));
    }
    bpe.merges_.emplace(Key(a->second, b->second),
                        Merge{static_cast<int32_t>(rank), merged->second});
  }
  if (options.ignore_merges) bpe.whole_pieces_ = std::move(options.vocab);
  return bpe;
}

// The merging of one piece: a linked list of symbols and a heap of candidates. A candidate whose
// symbols have changed since is stale and dropped when it comes up.
class Bpe::Merger {
 public:
  Merger(const Bpe& bpe, std::string_view piece) : bpe_(bpe), symbols_(piece.size()) {
    const auto size = static_cast<int32_t>(piece.size());
    for (int32_t i = 0; i < size; ++i) {
      const int32_t id = bpe.byte_ids_[static_cast<unsigned char>(piece[i])];
      symbols_[i] = {id, i - 1, i + 1 < size ? i + 1 : kNone};
    }
    for (int32_t i = 0; i + 1 < size; ++i) Consider(i);
  }

  void Run(std::vector<int32_t>& out) {
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
    if (symbols_.empty()) return;
    for (int32_t i = 0; i != kNone; i = symbols_[i].next) out.push_back(symbols_[i].id);
  }

 private:
  static constexpr int32_t kNone = -1;
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

void Bpe::Encode(std::string_view piece, std::vector<int32_t>& out) const {
  const auto whole = whole_pieces_.find(piece);
  if (whole != whole_pieces_.end()) {
    out.push_back(whole->second);
    return;
  }
  Merger(*this, piece).Run(out);
}

}  // namespace winnow
