#include "tokenizer/tokenizer.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tokenizer/stream_decoder.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

const std::string kModelDir = std::string(WINNOW_SOURCE_DIR) + "/models/demo";

nlohmann::json Golden(int index) {
  std::ifstream file(std::string(WINNOW_SOURCE_DIR) + "/tests/golden/demo/case" + std::to_string(index) + ".json");
  return nlohmann::json::parse(file);
}

class TokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Create(kModelDir);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TokenizerTest, EncodesTheGoldenPrompts) {
  for (int index : {0, 1}) {
    const nlohmann::json golden = Golden(index);
    const auto ids = tokenizer_->EncodeRaw(golden["prompt"].get<std::string>());
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*ids, golden["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer_->Decode(*ids, /*skip_special=*/false), golden["prompt"].get<std::string>());
  }
}

TEST_F(TokenizerTest, PlainTextHasNoSpecialTokens) {
  const auto plain = tokenizer_->EncodePlain("a<|end|>b");
  const auto raw = tokenizer_->EncodeRaw("a<|end|>b");
  ASSERT_TRUE(plain.ok() && raw.ok());
  EXPECT_EQ(raw->size(), 3u);
  EXPECT_EQ((*raw)[1], 4094);
  for (int32_t id : *plain) EXPECT_FALSE(tokenizer_->IsSpecial(id));
  EXPECT_EQ(tokenizer_->Decode(*plain, true), "a<|end|>b");
}

TEST_F(TokenizerTest, ChatFollowsTheTemplateAndContentStaysText) {
  const auto chat = tokenizer_->EncodeChat({{"user", "Hi <|end|> there"}});
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(tokenizer_->Decode(*chat, false), "<|begin_of_text|><|user|>Hi <|end|> there<|end|><|assistant|>");
  EXPECT_EQ(std::count(chat->begin(), chat->end(), 4094), 1);
  EXPECT_EQ(chat->front(), 4090);
  EXPECT_EQ(chat->back(), 4093);
  const auto turns = tokenizer_->EncodeChat({{"user", "a"}, {"assistant", "b"}, {"user", "c"}});
  ASSERT_TRUE(turns.ok());
  EXPECT_EQ(tokenizer_->Decode(*turns, false),
            "<|begin_of_text|><|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>");
}

TEST_F(TokenizerTest, RefusesARoleThatTheTemplateIgnores) {
  const auto chat = tokenizer_->EncodeChat({{"user", "a"}, {"robot", "b"}});
  EXPECT_EQ(chat.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(chat.status().message()), HasSubstr("message 1"));
  EXPECT_THAT(std::string(chat.status().message()), HasSubstr("robot"));
}

TEST_F(TokenizerTest, RefusesInvalidUtf8WithItsOffset) {
  for (const std::string& bad : {std::string("ab\xFF"), std::string("ab\xC3"), std::string("ab\xED\xA0\x80")}) {
    const auto ids = tokenizer_->EncodePlain(bad);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ids.status().message()), HasSubstr("byte 2"));
  }
}

TEST_F(TokenizerTest, DecodingGivesBackAnyText) {
  for (const std::string& text :
       {std::string(""), std::string(" "), std::string("\n\n  x\t"), std::string("naïve 漢字 🙂\r\n"),
        std::string("don't 12345 it'LL"), std::string(5000, 'a'), std::string(5000, ' ')}) {
    const auto ids = tokenizer_->EncodePlain(text);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(tokenizer_->Decode(*ids, true), text);
  }
}

TEST_F(TokenizerTest, AMegabyteOfOneLetterIsEncodedInTime) {
  // Quadratic merging would take minutes.
  const std::string text(1 << 20, 'e');
  const auto ids = tokenizer_->EncodePlain(text);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(tokenizer_->Decode(*ids, true), text);
}

TEST_F(TokenizerTest, StreamsWholeCharactersOnly) {
  const std::string text = "a漢🙂é";
  const auto ids = tokenizer_->EncodePlain(text);
  ASSERT_TRUE(ids.ok());
  StreamDecoder decoder(*tokenizer_);
  std::string streamed;
  for (int32_t id : *ids) {
    const std::string part = decoder.Add(id);
    EXPECT_TRUE(tokenizer_->EncodePlain(part).ok()) << "half a character";
    streamed += part;
  }
  EXPECT_EQ(streamed + decoder.Flush(), text);
}

TEST_F(TokenizerTest, ACharacterThatNeverBecameWholeIsReplaced) {
  StreamDecoder decoder(*tokenizer_);
  const auto ids = tokenizer_->EncodePlain("🙂");
  ASSERT_GT(ids->size(), 1u);
  EXPECT_EQ(decoder.Add(ids->front()), "");
  EXPECT_THAT(decoder.Flush(), HasSubstr("\xEF\xBF\xBD"));
}

// A copy of the demo tokenizer with one change.
absl::Status CreateWith(const std::function<void(nlohmann::json&)>& change) {
  const auto dir = std::filesystem::temp_directory_path() / ("tokenizer_test_" + std::to_string(getpid()));
  std::filesystem::create_directories(dir);
  nlohmann::json json = nlohmann::json::parse(std::ifstream(kModelDir + "/tokenizer.json"));
  change(json);
  std::ofstream(dir / "tokenizer.json") << json.dump();
  const absl::Status status = Tokenizer::Create(dir.string()).status();
  std::filesystem::remove_all(dir);
  return status;
}

TEST(TokenizerFileTest, RefusesWhatIsNotBuiltByName) {
  const std::vector<std::pair<std::function<void(nlohmann::json&)>, std::string>> cases = {
      {[](auto& j) { j["normalizer"] = {{"type", "NFC"}}; }, "NFC"},
      {[](auto& j) { j["model"]["type"] = "Unigram"; }, "BPE"},
      {[](auto& j) { j["model"]["byte_fallback"] = true; }, "byte_fallback"},
      {[](auto& j) { j["pre_tokenizer"] = {{"type", "Metaspace"}}; }, "Metaspace"},
      {[](auto& j) { j["decoder"]["type"] = "WordPiece"; }, "WordPiece"},
      {[](auto& j) { j["model"]["merges"].push_back("zz9 qq9"); }, "merges"},
      {[](auto& j) { j["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "("; }, "split pattern"},
  };
  for (const auto& [change, text] : cases) {
    const absl::Status status = CreateWith(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  EXPECT_TRUE(CreateWith([](auto&) {}).ok());
  EXPECT_EQ(Tokenizer::Create("/nonexistent").status().code(), absl::StatusCode::kNotFound);
}

TEST(ChatTemplateTest, RendersLoopsConditionsAndStripping) {
  const auto t = ChatTemplate::Create(
      "{{ bos_token }}{% set x = 'S' %}\n{%- for m in messages -%}\n"
      "{% if loop.first and not loop.last %}[{{ x }}]{% elif loop.last %}<{% else %}-{% endif %}"
      "{{ m.role + ':' + m['content'] }}{% endfor %}{# note #}!");
  ASSERT_TRUE(t.ok()) << t.status();
  const auto parts = t->Render({{"user", "a"}, {"user", "b"}, {"user", "c"}}, "B", "E");
  ASSERT_TRUE(parts.ok()) << parts.status();
  std::string text;
  for (const auto& part : *parts) text += part.text;
  EXPECT_EQ(text, "B[S]user:a-user:b<user:c!");
}

TEST(ChatTemplateTest, RefusesOtherJinja) {
  for (const char* source : {"{% macro f() %}{% endmacro %}", "{{ x | upper }}", "{% for m in messages %}",
                             "{{ messages[0:1] }}", "{{ 'open }}", "{% if x %}"}) {
    EXPECT_EQ(ChatTemplate::Create(source).status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

}  // namespace
}  // namespace winnow
