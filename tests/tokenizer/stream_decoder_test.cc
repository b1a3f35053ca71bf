#include "tokenizer/stream_decoder.h"

#include "common/utf8.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

class StreamDecoderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Create(std::string(WINNOW_SOURCE_DIR) + "/models/demo");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::vector<int32_t> Encode(const std::string& text) {
    const auto ids = tokenizer_->EncodePlain(text);
    EXPECT_TRUE(ids.ok()) << ids.status();
    return ids.ok() ? *ids : std::vector<int32_t>();
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(StreamDecoderTest, StreamsWholeCharactersOnly) {
  const std::string text = "a\u6f22\U0001F642\u00e9 the end";
  StreamDecoder decoder(*tokenizer_);
  std::string streamed;
  for (int32_t id : Encode(text)) {
    const std::string part = decoder.Add(id);
    EXPECT_EQ(FirstInvalidUtf8(part), part.size()) << "half a character";
    streamed += part;
  }
  EXPECT_EQ(streamed, text) << "something whole was held back";
  EXPECT_EQ(decoder.Flush(), "");
}

TEST_F(StreamDecoderTest, ACharacterThatNeverBecameWholeGivesOneReplacement) {
  const std::vector<int32_t> ids = Encode("\U0001F642");
  ASSERT_EQ(ids.size(), 4u) << "the demo vocabulary has single bytes for it";
  StreamDecoder at_end(*tokenizer_);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(at_end.Add(ids[i]), "");
  EXPECT_EQ(at_end.Flush(), kReplacement);
  EXPECT_EQ(at_end.Flush(), "");

  StreamDecoder inside(*tokenizer_);
  EXPECT_EQ(inside.Add(ids[0]), "");
  EXPECT_EQ(inside.Add(Encode("x")[0]), std::string(kReplacement) + "x");
}

TEST_F(StreamDecoderTest, SpecialAndUnknownTokensGiveNoText) {
  StreamDecoder decoder(*tokenizer_);
  EXPECT_EQ(decoder.Add(4094), "");  // <|end|>
  EXPECT_EQ(decoder.Add(-1), "");
  EXPECT_EQ(decoder.Add(1 << 30), "");
  EXPECT_EQ(decoder.Flush(), "");
}

}  // namespace
}  // namespace winnow
