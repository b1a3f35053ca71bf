#include "tokenizer/tokenizer_file.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tokenizer/tokenizer.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

// A model folder with copies of the demo tokenizer's files, changed by the test.
class TokenizerFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() / ("tokenizer_test_" + std::to_string(getpid()));
    std::filesystem::create_directories(dir_);
    const std::string demo = std::string(WINNOW_SOURCE_DIR) + "/models/demo/";
    tokenizer_ = Json::parse(std::ifstream(demo + "tokenizer.json"));
    config_ = Json::parse(std::ifstream(demo + "tokenizer_config.json"));
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  absl::StatusOr<std::unique_ptr<Tokenizer>> CreateFrom(const std::string& tokenizer,
                                                        const std::string& config) {
    std::ofstream(dir_ / "tokenizer.json") << tokenizer;
    std::ofstream(dir_ / "tokenizer_config.json") << config;
    return Tokenizer::Create(dir_.string());
  }
  void ExpectRefused(const absl::Status& status, const std::string& file, const std::string& text) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
  // With `value` at the JSON pointer `at`.
  void ExpectRefused(const std::string& at, const Json& value, const std::string& text) {
    Json json = tokenizer_;
    json[Json::json_pointer(at)] = value;
    ExpectRefused(CreateFrom(json.dump(), config_.dump()).status(), "/tokenizer.json: ", text);
  }

  std::filesystem::path dir_;
  Json tokenizer_, config_;
};

TEST_F(TokenizerFileTest, RefusesWhatIsNotBuiltByFieldAndValue) {
  ExpectRefused("/normalizer", {{"type", "Precompiled"}},
                "normalizer.type: expected Sequence, NFC");
  ExpectRefused("/model/type", "Unigram", "model.type: expected BPE, got \"Unigram\"");
  ExpectRefused("/model/dropout", 0.1, "model.dropout");
  ExpectRefused("/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix");
  ExpectRefused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
  ExpectRefused("/pre_tokenizer", {{"type", "Digits"}}, "pre_tokenizer.type");
  ExpectRefused("/pre_tokenizer", {{"type", "Metaspace"}}, "decoder: expected ByteLevel exactly");
  ExpectRefused("/decoder/type", "WordPiece", "got \"WordPiece\"");
  for (const char* field : {"lstrip", "rstrip", "single_word"}) {
    ExpectRefused("/added_tokens/2/" + std::string(field), true,
                  "added_tokens[2]." + std::string(field));
  }
}

TEST_F(TokenizerFileTest, RefusesWrongTypesByField) {
  ExpectRefused("/model", 1, "model: expected an object");
  ExpectRefused("/model/type", 1, "model.type");
  ExpectRefused("/model/vocab", Json::array(), "model.vocab");
  ExpectRefused("/model/vocab/a", -1, "model.vocab[\"a\"]");
  ExpectRefused("/model/vocab/a", "1", "model.vocab[\"a\"]");
  ExpectRefused("/model/vocab/a", 1.5, "model.vocab[\"a\"]");
  ExpectRefused("/model/vocab/a", uint64_t{1} << 63, "model.vocab[\"a\"]");
  ExpectRefused("/model/vocab/a", 1 << 30, "model.vocab[\"a\"]");
  ExpectRefused("/model/vocab/b", tokenizer_["model"]["vocab"]["a"], "is taken");
  ExpectRefused("/model/vocab/", 4096, "an empty token");
  ExpectRefused("/model/merges", Json::object(), "model.merges");
  ExpectRefused("/model/merges/3", 1, "model.merges[3]");
  ExpectRefused("/model/merges/3", "nospace", "model.merges[3]");
  ExpectRefused("/model/merges/3", {"a", "b", "c"}, "model.merges[3]");
  ExpectRefused("/model/merges/3", {"a", "\u6f22"}, "model.merges[3]");
  ExpectRefused("/model/merges/3", {"zzz", "qqq"}, "model.merges[3]");
  ExpectRefused("/model/ignore_merges", "yes", "model.ignore_merges");
  ExpectRefused("/decoder", nullptr, "decoder.type");
  ExpectRefused("/decoder/type", 5, "decoder.type");
  ExpectRefused("/added_tokens", 1, "added_tokens");
  ExpectRefused("/added_tokens/0", "<x>", "added_tokens[0]");
  ExpectRefused("/added_tokens/0/id", "7", "added_tokens[0].id");
  ExpectRefused("/added_tokens/0/id", 0, "another token's");
  ExpectRefused("/added_tokens/0/id", 4091, "another token's");
  ExpectRefused("/added_tokens/0/content", 7, "added_tokens[0].content");
  ExpectRefused("/added_tokens/0/content", "<|end|>", "there twice");
  ExpectRefused("/added_tokens/0/special", "no", "added_tokens[0].special");
}

TEST_F(TokenizerFileTest, RefusesWhatIsNoJsonObject) {
  const std::string config = config_.dump();
  ExpectRefused(CreateFrom("", config).status(), "/tokenizer.json", "JSON object");
  ExpectRefused(CreateFrom("[]", config).status(), "/tokenizer.json", "JSON object");
  ExpectRefused(CreateFrom("{\"model\":", config).status(), "/tokenizer.json", "JSON object");
  const std::string deep = "{\"normalizer\":" + std::string(1 << 20, '[');
  ExpectRefused(CreateFrom(deep, config).status(), "/tokenizer.json", "nested");
  ExpectRefused(CreateFrom(tokenizer_.dump(), "7").status(), "/tokenizer_config.json",
                "JSON object");
  EXPECT_EQ(Tokenizer::Create(dir_ / "nothing").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TokenizerFileTest, RefusesABadConfigByField) {
  const auto expect_refused = [&](const char* field, const Json& value, const std::string& text) {
    Json json = config_;
    json[field] = value;
    ExpectRefused(CreateFrom(tokenizer_.dump(), json.dump()).status(),
                  "/tokenizer_config.json: ", text);
  };
  expect_refused("bos_token", 7, "bos_token");
  expect_refused("eos_token", {{"content", 7}}, "eos_token.content");
  expect_refused("chat_template", 7, "chat_template: expected a text or a list");
  expect_refused("chat_template", Json::array(), "'default'");
  expect_refused("chat_template", {{{"name", "default"}, {"template", 7}}},
                 "chat_template[0].template");
}

TEST_F(TokenizerFileTest, TheDefaultOfSeveralTemplatesCounts) {
  const std::string usual = config_["chat_template"];
  config_["chat_template"] = {{{"name", "tool_use"}, {"template", "{{ 'no' }}"}},
                              {{"name", "default"}, {"template", usual}}};
  const auto tokenizer = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_TRUE((*tokenizer)->EncodeChat({{"user", "a"}}).ok());
}

TEST_F(TokenizerFileTest, ATemplateOfItsOwnFileStandsAbove) {
  std::ofstream(dir_ / "chat_template.jinja") << "{{ messages[0].content }}!";
  const auto tokenizer = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->EncodeChat({{"user", "a"}});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ((*tokenizer)->Decode(*ids, false), "a!");
}

TEST_F(TokenizerFileTest, ATemplateThatIsNotSupportedFailsChatAlone) {
  config_["chat_template"] = "{{ x | no_such_filter }}";
  const auto tokenizer = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const absl::Status status = (*tokenizer)->EncodeChat({{"user", "a"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no_such_filter"));
  EXPECT_EQ((*tokenizer)->chat_status(), status);
  EXPECT_TRUE((*tokenizer)->EncodeRaw("a").ok());
}

// Such a token would have to be sought in text that has been normalized.
TEST_F(TokenizerFileTest, ANormalizedTokenThatTheNormalizerChangesIsRefused) {
  tokenizer_["normalizer"] = {{"type", "Prepend"}, {"prepend", "_"}};
  ExpectRefused("/added_tokens/2/normalized", true, "added_tokens[2].normalized");
}

TEST_F(TokenizerFileTest, WithoutATemplateOnlyChatFails) {
  config_.erase("chat_template");
  const auto tokenizer = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->EncodeChat({{"user", "a"}}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE((*tokenizer)->EncodeRaw("a").ok());
}

TEST_F(TokenizerFileTest, MergesInTheOlderFormAreTheSame) {
  const std::string text = "One of the special magic numbers, and love one another";
  const auto newer = CreateFrom(tokenizer_.dump(), config_.dump());
  for (Json& merge : tokenizer_["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const auto older = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(newer.ok() && older.ok()) << newer.status() << older.status();
  EXPECT_EQ(*(*newer)->EncodePlain(text), *(*older)->EncodePlain(text));
}

// As in GPT-2's file: the vocabulary holds the special token too.
TEST_F(TokenizerFileTest, PlainTextNeverGivesASpecialTokenOfTheVocabulary) {
  tokenizer_["model"]["vocab"]["secret"] = 4096;
  tokenizer_["model"]["ignore_merges"] = true;
  const Json token = {{"id", 4096}, {"content", "secret"}, {"special", true}};
  const auto ordinary = CreateFrom(tokenizer_.dump(), config_.dump());
  tokenizer_["added_tokens"].push_back(token);
  const auto special = CreateFrom(tokenizer_.dump(), config_.dump());
  ASSERT_TRUE(ordinary.ok() && special.ok()) << ordinary.status() << special.status();
  EXPECT_EQ(*(*ordinary)->EncodePlain("secret"), std::vector<int32_t>{4096});
  EXPECT_NE(*(*special)->EncodePlain("secret"), std::vector<int32_t>{4096});
  EXPECT_EQ(*(*special)->EncodeRaw("secret"), std::vector<int32_t>{4096});
}

TEST_F(TokenizerFileTest, BrokenFilesNeverCrash) {
  // A small file, so that a damaged byte hits structure more often than vocabulary.
  Json merges = Json::array();
  for (int i = 0; i < 3; ++i) merges.push_back(tokenizer_["model"]["merges"][i]);
  tokenizer_["model"]["merges"] = merges;
  const std::string whole = tokenizer_.dump(), config = config_.dump();
  const size_t model = whole.find("\"vocab\"");
  std::mt19937 random(3);
  for (int i = 0; i < 60; ++i) {
    std::string damaged = whole, damaged_config = config;
    damaged[random() % model] = static_cast<char>("\"{}[]:,0truefalsn-"[random() % 18]);
    damaged_config[random() % config.size()] = static_cast<char>("\"{}[]%'-"[random() % 8]);
    const auto tokenizer = CreateFrom(damaged, i % 2 == 0 ? damaged_config : config);
    if (tokenizer.ok()) (*tokenizer)->EncodeChat({{"user", "a"}}).IgnoreError();
  }
}

}  // namespace
}  // namespace winnow
