#include "tokenizer/normalizer.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::string Normal(const Json& json, const std::string& text) {
  const auto normalizer = Normalizer::Create(json);
  EXPECT_TRUE(normalizer.ok()) << normalizer.status();
  if (!normalizer.ok()) return "";
  const auto normal = normalizer->Apply(text);
  EXPECT_TRUE(normal.ok()) << normal.status();
  return normal.value_or("");
}
Json Form(const char* type) { return {{"type", type}}; }

TEST(NormalizerTest, NoneLeavesTextAlone) {
  EXPECT_EQ(Normal(Json(), "e\u0301 \n"), "e\u0301 \n");
  EXPECT_TRUE(Normalizer::Create(Json())->is_identity());
}

TEST(NormalizerTest, UnicodeForms) {
  const std::string text = "x e\u0301y \ufb01 \u212b a\u0301\u0323 \u1100\u1161\u11a8 \u6f22";
  EXPECT_EQ(Normal(Form("NFC"), text), "x \u00e9y \ufb01 \u00c5 \u1ea1\u0301 \uac01 \u6f22");
  EXPECT_EQ(Normal(Form("NFD"), "\u00e9\ufb01"), "e\u0301\ufb01");
  EXPECT_EQ(Normal(Form("NFKC"), "e\u0301\ufb01\u00b2"), "\u00e9fi2");
  EXPECT_EQ(Normal(Form("NFKD"), "\u00e9\ufb01"), "e\u0301fi");
}

TEST(NormalizerTest, AMarkJoinsTheCharacterBeforeItWhereverAStretchEnds) {
  for (const std::string before : {"", "a", "ab", "\u00e9", "\u6f22"}) {
    for (const std::string after : {"", "z", "\u00e9", "\u6f22"}) {
      EXPECT_EQ(Normal(Form("NFC"), before + "o\u0308" + after), before + "\u00f6" + after);
    }
  }
  EXPECT_EQ(Normal(Form("NFC"), "\u0301a"), "\u0301a");
}

// An ordering by swaps of neighbours would take 10¹¹ of them.
TEST(NormalizerTest, LongRunsOfMarksAreOrderedInTime) {
  constexpr int kMarks = 300'000;
  std::string text = "q", expected = "q";
  for (int i = 0; i < kMarks; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  for (int i = 0; i < kMarks / 2; ++i) expected += "\u0323";
  for (int i = 0; i < kMarks / 2; ++i) expected += "\u0301";
  EXPECT_EQ(Normal(Form("NFC"), text), expected);
}

TEST(NormalizerTest, PrependAndReplaceInTheirOrder) {
  const Json json = {{"type", "Sequence"},
                     {"normalizers",
                      {{{"type", "Prepend"}, {"prepend", "▁"}},
                       {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}}}}};
  EXPECT_EQ(Normal(json, "a  b"), "▁a▁▁b");
  EXPECT_EQ(Normal(json, ""), "");
  const Json digits = {{"type", "Replace"}, {"pattern", {{"Regex", "[0-9]+"}}}, {"content", "#"}};
  EXPECT_EQ(Normal(digits, "a12b3"), "a#b#");
}

TEST(NormalizerTest, RefusesWhatIsNotBuiltByName) {
  const std::vector<std::pair<Json, std::string>> cases = {
      {Form("Lowercase"), "normalizer.type: expected Sequence, NFC"},
      {{{"type", "Sequence"}}, "normalizer.normalizers"},
      {{{"type", "Sequence"}, {"normalizers", {Form("Nmt")}}}, "normalizer.normalizers[0].type"},
      {{{"type", "Replace"}, {"content", "x"}}, "normalizer.pattern"},
      {{{"type", "Prepend"}, {"prepend", 7}}, "normalizer.prepend"},
  };
  for (const auto& [json, text] : cases) {
    const absl::Status status = Normalizer::Create(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << json;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

}  // namespace
}  // namespace winnow
