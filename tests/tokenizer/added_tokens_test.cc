#include "tokenizer/added_tokens.h"

#include <string>

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(AddedTokensTest, TheLongestWins) {
  AddedTokens tokens;
  EXPECT_TRUE(tokens.Add("<a>", 1));
  EXPECT_TRUE(tokens.Add("<a><b>", 2));
  EXPECT_TRUE(tokens.Add("<", 3));
  EXPECT_EQ(tokens.LongestPrefix("<a><b>x")->id, 2);
  EXPECT_EQ(tokens.LongestPrefix("<a><c>")->id, 1);  // back to the last that was whole
  EXPECT_EQ(tokens.LongestPrefix("<a><c>")->length, 3u);
  EXPECT_EQ(tokens.LongestPrefix("<x")->id, 3);
  EXPECT_FALSE(tokens.LongestPrefix("x<a>").has_value());
  EXPECT_FALSE(tokens.LongestPrefix("").has_value());
}

TEST(AddedTokensTest, RefusesEmptyAndRepeatedTokens) {
  AddedTokens tokens;
  EXPECT_FALSE(tokens.Add("", 1));
  EXPECT_TRUE(tokens.Add("<a>", 1));
  EXPECT_FALSE(tokens.Add("<a>", 2));
  EXPECT_EQ(tokens.LongestPrefix("<a>")->id, 1);
}

TEST(AddedTokensTest, ManyTokensWithOneBeginningCostNoMore) {
  AddedTokens tokens;
  for (int i = 0; i < 100000; ++i) tokens.Add("<|reserved_" + std::to_string(i) + "|>", i);
  const std::string text(1 << 20, '<');
  // Trying each token at each position would take 10¹¹ comparisons.
  for (size_t at = 0; at < text.size(); ++at) {
    ASSERT_FALSE(tokens.LongestPrefix(std::string_view(text).substr(at)).has_value());
  }
}

}  // namespace
}  // namespace winnow
