#include "tokenizer/token_decoder.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

Json Sequence(std::vector<Json> parts) { return {{"type", "Sequence"}, {"decoders", parts}}; }
const Json kBlanks = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
const Json kFallback = {{"type", "ByteFallback"}};

TEST(TokenDecoderTest, ByteLevelTokensAreBytes) {
  const auto decoder = TokenDecoder::Create({{"type", "ByteLevel"}});
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  EXPECT_TRUE(decoder->is_byte_level());
  EXPECT_EQ(decoder->Bytes("Ġa"), " a");
  EXPECT_EQ(decoder->Bytes("<0x0A>"), "<0x0A>");
  EXPECT_EQ(decoder->leading_blanks(), 0);
}

TEST(TokenDecoderTest, SentencePieceTokensHaveBlanksAndBytes) {
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const auto decoder =
      TokenDecoder::Create(Sequence({kBlanks, kFallback, {{"type", "Fuse"}}, strip}));
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  EXPECT_FALSE(decoder->is_byte_level());
  EXPECT_EQ(decoder->Bytes("▁a▁▁"), " a  ");
  EXPECT_EQ(decoder->Bytes("<0x0A>"), "\n");
  EXPECT_EQ(decoder->Bytes("<0xFF>"), "\xFF");
  EXPECT_EQ(decoder->leading_blanks(), 1);
  for (const char* text : {"<0x0a>", "<0x1>", "<0xG0>", "<0x00", "0x0A"}) {
    EXPECT_EQ(decoder->Bytes(text), text);
    EXPECT_FALSE(ParseByteToken(text).has_value());
  }
}

TEST(TokenDecoderTest, RefusesWhatIsNotBuiltByName) {
  const std::vector<std::pair<Json, std::string>> cases = {
      {Json(), "decoder.type"},
      {{{"type", "WordPiece"}}, "decoder.type"},
      {{{"type", "Sequence"}}, "decoder.decoders"},
      {Sequence({kBlanks, {{"type", "ByteLevel"}}}), "decoder.decoders[1]"},
      {Sequence({{{"type", "ByteLevel"}}, kFallback}), "decoder.decoders[1]"},
      {{{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", ""}}, "decoder.pattern"},
      {{{"type", "Strip"}, {"content", "x"}, {"start", 1}, {"stop", 0}}, "decoder.content"},
      {{{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}}, "decoder.start"},
      {{{"type", "Strip"}, {"content", " "}, {"start", 0}, {"stop", 1}}, "decoder.stop"},
  };
  for (const auto& [json, text] : cases) {
    const absl::Status status = TokenDecoder::Create(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace winnow
