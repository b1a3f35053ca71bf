#include "common/utf8.h"

#include <vector>

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(Utf8Test, FindsTheFirstInvalidByte) {
  const std::vector<std::pair<std::string, size_t>> cases = {
      {"", 0},
      {"abc", 3},
      {"\u00e9\u6f22\U0001F642", 9},
      {"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF", 10},  // the neighbours of what is refused below
      {"ab\xFF", 2},
      {"ab\x80", 2},
      {"a\xC3", 1},
      {"a\xC1\xBF", 1},          // overlong
      {"a\xE0\x9F\xBF", 1},      // overlong
      {"a\xF0\x8F\xBF\xBF", 1},  // overlong
      {"a\xED\xA0\x80", 1},      // a surrogate
      {"a\xF4\x90\x80\x80", 1},  // beyond U+10FFFF
      {"\u6f22\xE6\xBC", 3},
  };
  for (const auto& [text, offset] : cases) EXPECT_EQ(FirstInvalidUtf8(text), offset) << text;
}

TEST(Utf8Test, EveryCodePointSurvivesEncodingAndDecoding) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;
    std::string text;
    AppendUtf8(c, text);
    const int length = Utf8Length(text, 0);
    ASSERT_EQ(static_cast<size_t>(length), text.size()) << c;
    ASSERT_EQ(DecodeUtf8(text, 0, length), c);
  }
}

TEST(Utf8Test, OnlyABegunCharacterIsAnIncompleteTail) {
  const std::vector<std::pair<std::string, size_t>> cases = {
      {"", 0},
      {"a", 0},
      {"\u00e9", 0},
      {"a\xC3", 1},
      {"a\xE6\xBC", 2},
      {"\xF0\x9F\x99", 3},
      {"\xF0\x9F", 2},
      {"\xE0\x80", 0},
      {"\x80", 0},
      {"a\xFF", 0},
      {"\xF0\x9F\x99\x82", 0},
      {"\xED\xA0", 0},
      {"\xC3\x80\x80", 0},
  };
  for (const auto& [text, size] : cases) EXPECT_EQ(IncompleteUtf8Tail(text), size) << text;
}

TEST(Utf8Test, CutsBeforeACharacterThatDoesNotFit) {
  EXPECT_EQ(CutUtf8("a\u6f22b", 9), "a\u6f22b");
  EXPECT_EQ(CutUtf8("a\u6f22b", 4), "a\u6f22");
  EXPECT_EQ(CutUtf8("a\u6f22b", 3), "a");
  EXPECT_EQ(CutUtf8("a\u6f22b", 0), "");
}

TEST(Utf8Test, AnInvalidStretchIsAsLongAsACharacterCouldHaveBegun) {
  EXPECT_EQ(InvalidUtf8Length("\xF0\x9F\x99 ", 0), 3);
  EXPECT_EQ(InvalidUtf8Length("\xF0\x9F", 0), 2);
  EXPECT_EQ(InvalidUtf8Length("\xED\xA0\x80", 0), 1);
  EXPECT_EQ(InvalidUtf8Length("\xFF\xFF", 0), 1);
}

}  // namespace
}  // namespace winnow
