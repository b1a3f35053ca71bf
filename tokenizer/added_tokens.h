#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace winnow {

// The added tokens of a tokenizer, special or not, as a trie over their bytes: finding the longest
// at a position costs no more than that token's length, however many share its beginning.
class AddedTokens {
 public:
  struct Match {
    int32_t id = 0;
    size_t length = 0;
  };

  // False: `content` is empty or was added before.
  bool Add(std::string_view content, int32_t id);
  // The longest token that `text` begins with.
  std::optional<Match> LongestPrefix(std::string_view text) const;

 private:
  struct Node {
    int32_t id = -1;  // of the token that ends here
    std::map<char, size_t> next;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);
};

}  // namespace winnow
