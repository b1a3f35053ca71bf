#include "tokenizer/pre_tokenizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}
Json Split(Json pattern) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
}
Json Sequence(std::vector<Json> parts) { return {{"type", "Sequence"}, {"pretokenizers", parts}}; }

std::vector<std::string> Pieces(const Json& json, const std::string& text, bool is_start = true) {
  const auto splitter = PreTokenizer::Create(json);
  EXPECT_TRUE(splitter.ok()) << splitter.status();
  std::vector<std::string> pieces;
  if (!splitter.ok()) return pieces;
  const absl::Status status =
      splitter->Split(text, is_start, [&](std::string_view piece) { pieces.emplace_back(piece); });
  EXPECT_TRUE(status.ok()) << status;
  return pieces;
}

TEST(PreTokenizerTest, CutsAsLlama3Does) {
  const Json json = Sequence({Split({{"Regex", kLlama3}}), ByteLevel(false)});
  EXPECT_THAT(Pieces(json, "It's 12345 (ok)!\n\n  x"),
              ElementsAre("It", "'s", " ", "123", "45", " (", "ok", ")!\n\n", " ", " x"));
  EXPECT_THAT(Pieces(json, "DON'T na\u00efve\u6f22\u5b57 \u0663"),
              ElementsAre("DON", "'T", " na\u00efve\u6f22\u5b57", " ", "\u0663"));
  EXPECT_THAT(Pieces(json, " \t\n \n z"), ElementsAre(" \t\n \n", " z"));
  EXPECT_THAT(Pieces(json, "a\u00a0b"), ElementsAre("a", "\u00a0b"));
}

TEST(PreTokenizerTest, ByteLevelAloneCutsAsGpt2Does) {
  EXPECT_THAT(Pieces(ByteLevel(true), "It's 12345 DON'T  x\n"),
              ElementsAre("It", "'s", " 12345", " DON", "'", "T", " ", " x", "\n"));
  EXPECT_THAT(Pieces(ByteLevel(false), "one piece, as it is"), ElementsAre("one piece, as it is"));
}

TEST(PreTokenizerTest, StagesCutThePiecesOfTheStageBefore) {
  const Json json =
      Sequence({Split({{"Regex", "[0-9]"}}), Split({{"String", "a.b"}}), ByteLevel(false)});
  EXPECT_THAT(Pieces(json, "xa.b1axb2"), ElementsAre("x", "a.b", "1", "axb", "2"));
}

TEST(PreTokenizerTest, WithoutOneTextIsOnePiece) {
  EXPECT_THAT(Pieces(Json(), "a b  c"), ElementsAre("a b  c"));
  EXPECT_THAT(Pieces(Json(), ""), ElementsAre());
}

TEST(PreTokenizerTest, MatchesJoinTheirNeighbours) {
  Json split = Split({{"String", "-"}});
  split["behavior"] = "MergedWithPrevious";
  EXPECT_THAT(Pieces(split, "-a-b--c-"), ElementsAre("-", "a-", "b-", "-", "c-"));
  split["behavior"] = "MergedWithNext";
  EXPECT_THAT(Pieces(split, "-a-b--c-"), ElementsAre("-a", "-b", "-", "-c", "-"));
}

TEST(PreTokenizerTest, MetaspaceWritesBlanksAndPrependsOne) {
  const auto metaspace = [](const char* scheme, bool split) {
    return Json{{"type", "Metaspace"}, {"prepend_scheme", scheme}, {"split", split}};
  };
  EXPECT_THAT(Pieces(metaspace("always", false), "a  b"), ElementsAre("▁a▁▁b"));
  EXPECT_THAT(Pieces(metaspace("always", false), "a b", /*is_start=*/false), ElementsAre("▁a▁b"));
  EXPECT_THAT(Pieces(metaspace("first", false), "a b"), ElementsAre("▁a▁b"));
  EXPECT_THAT(Pieces(metaspace("first", false), "a b", /*is_start=*/false), ElementsAre("a▁b"));
  EXPECT_THAT(Pieces(metaspace("never", false), "a b"), ElementsAre("a▁b"));
  EXPECT_THAT(Pieces(metaspace("always", false), " a"), ElementsAre("▁a"));
  EXPECT_THAT(Pieces(metaspace("always", true), "a  b c"), ElementsAre("▁a", "▁", "▁b", "▁c"));
}

// U+180E lost its white-space property in Unicode 6.3; PCRE2's own \s still has it.
TEST(PreTokenizerTest, WhiteSpaceIsUnicodesWhiteSpace) {
  const Json json = Sequence({Split({{"Regex", R"(\s+|[^\S\n]x)"}}), ByteLevel(false)});
  EXPECT_THAT(Pieces(json, "a\u180eb"), ElementsAre("a\u180eb"));
  EXPECT_THAT(Pieces(json, "a\u3000\u2028\u0085b"), ElementsAre("a", "\u3000\u2028\u0085", "b"));
}

TEST(PreTokenizerTest, EmptyMatchesCutNothing) {
  const Json json = Sequence({Split({{"Regex", "x*"}}), ByteLevel(false)});
  EXPECT_THAT(Pieces(json, "\u6f22axxb"), ElementsAre("\u6f22a", "xx", "b"));
}

TEST(PreTokenizerTest, LongRunsAreCutInTime) {
  const auto splitter =
      PreTokenizer::Create(Sequence({Split({{"Regex", kLlama3}}), ByteLevel(false)}));
  ASSERT_TRUE(splitter.ok());
  for (const char* unit :
       {"e", " ", "\n", " \n", "1", "!", "'", "\u6f22", "a ", "\xF0\x9F\x99\x82", "'s", "\t x"}) {
    std::string text;
    while (text.size() < (4u << 20)) text += unit;
    for (const char* end : {"", "x", "\n", "1"}) {
      size_t size = 0;
      const absl::Status status =
          splitter->Split(text + end, true, [&](std::string_view piece) { size += piece.size(); });
      EXPECT_TRUE(status.ok()) << status << " in a run of '" << unit << "'";
      EXPECT_EQ(size, text.size() + std::string(end).size());
    }
  }
}

TEST(PreTokenizerTest, APatternThatExplodesIsStopped) {
  const auto splitter =
      PreTokenizer::Create(Sequence({Split({{"Regex", "(?:a|a|aa)+$"}}), ByteLevel(false)}));
  ASSERT_TRUE(splitter.ok());
  const absl::Status status =
      splitter->Split(std::string(60, 'a') + "b", true, [](std::string_view) {});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte 0"));
}

TEST(PreTokenizerTest, RefusesWhatIsNotBuiltByName) {
  Json removed = Split({{"Regex", "a"}}), inverted = Split({{"Regex", "a"}});
  removed["behavior"] = "Removed";
  inverted["invert"] = true;
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"type", 7}},
       "pre_tokenizer.type: expected Sequence, Split, Metaspace or ByteLevel, got 7"},
      {Sequence({{{"type", "Metaspace"}}, ByteLevel(false)}), "either ByteLevel or Metaspace"},
      {Sequence({Split({{"Regex", "a"}}), {{"type", "Metaspace"}}}), "Metaspace first and once"},
      {{{"type", "Metaspace"}, {"prepend_scheme", "often"}}, "pre_tokenizer.prepend_scheme"},
      {{{"type", "Metaspace"}, {"replacement", ""}}, "pre_tokenizer.replacement"},
      {{{"type", "Metaspace"}, {"split", 1}}, "pre_tokenizer.split"},
      {Sequence({{{"type", "Digits"}}}), "pretokenizers[0].type"},
      {{{"type", "Sequence"}}, "pre_tokenizer.pretokenizers"},
      {Sequence({ByteLevel(false), Split({{"Regex", "a"}})}), "pretokenizers[1]"},
      {Sequence({removed, ByteLevel(false)}), "Removed"},
      {Sequence({inverted, ByteLevel(false)}), "invert"},
      {Sequence({Split({{"Regex", "("}}), ByteLevel(false)}), "'('"},
      {Sequence({Split({{"String", ""}}), ByteLevel(false)}), "pretokenizers[0].pattern"},
      {Sequence({Split("a"), ByteLevel(false)}), "pretokenizers[0].pattern"},
      {{{"type", "ByteLevel"}, {"add_prefix_space", true}}, "add_prefix_space"},
      {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", "no"}}, "use_regex"},
  };
  for (const auto& [json, text] : cases) {
    const absl::Status status = PreTokenizer::Create(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace winnow
