#include "tokenizer/added_tokens.h"

namespace winnow {

bool AddedTokens::Add(std::string_view content, int32_t id) {
  size_t node = 0;
  for (char c : content) {
    const auto [it, is_new] = nodes_[node].next.emplace(c, nodes_.size());
    node = it->second;
    if (is_new) nodes_.emplace_back();
  }
  if (content.empty() || nodes_[node].id >= 0) return false;
  nodes_[node].id = id;
  return true;
}

std::optional<AddedTokens::Match> AddedTokens::LongestPrefix(std::string_view text) const {
  std::optional<Match> longest;
  size_t node = 0;
  for (size_t length = 0; length < text.size();) {
    const auto it = nodes_[node].next.find(text[length]);
    if (it == nodes_[node].next.end()) break;
    node = it->second;
    ++length;
    if (nodes_[node].id >= 0) longest = Match{nodes_[node].id, length};
  }
  return longest;
}

}  // namespace winnow
