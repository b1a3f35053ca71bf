#include "tokenizer/byte_level.h"

#include <set>

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(ByteLevelTest, EveryByteHasItsOwnPrintableCharacter) {
  std::set<std::string> seen;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    const std::string text = BytesToByteLevel(bytes);
    EXPECT_TRUE(seen.insert(text).second) << byte;
    EXPECT_EQ(ByteLevelToBytes(text), bytes);
  }
}

TEST(ByteLevelTest, KeepsPrintableAsciiAndMapsTheRestAsGpt2Does) {
  EXPECT_EQ(BytesToByteLevel("az~!"), "az~!");
  EXPECT_EQ(BytesToByteLevel(" \n\t"), "\u0120\u010a\u0109");
  EXPECT_EQ(BytesToByteLevel("\x7F\xA0\xAD\xFF"), "\u0121\u0142\u0143\u00ff");
  EXPECT_EQ(BytesToByteLevel("\u6f22"), "\u00e6\u00bc\u00a2");
}

TEST(ByteLevelTest, RefusesCharactersThatStandForNoByte) {
  EXPECT_EQ(ByteLevelToBytes("a b"), std::nullopt);
  EXPECT_EQ(ByteLevelToBytes("\u6f22"), std::nullopt);
  EXPECT_EQ(ByteLevelToBytes("a\xFF"), std::nullopt);
}

}  // namespace
}  // namespace winnow
