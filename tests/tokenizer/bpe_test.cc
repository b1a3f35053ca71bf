#include "tokenizer/bpe.h"

#include <algorithm>
#include <map>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Bytes have their own value as id, the result of merge i has id 256 + i.
Bpe::Options WithMerges(std::vector<std::pair<std::string, std::string>> merges) {
  Bpe::Options options;
  for (int byte = 0; byte < 256; ++byte)
    options.vocab[std::string(1, static_cast<char>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    options.vocab.emplace(left + right, static_cast<int32_t>(options.vocab.size()));
  }
  options.merges = std::move(merges);
  return options;
}

std::vector<int32_t> Encode(const Bpe& bpe, std::string_view text) {
  std::vector<int32_t> ids;
  bpe.Encode(text, ids);
  return ids;
}

// The definition, word for word: merge the best pair, the leftmost of equals, until there is none.
std::vector<int32_t> EncodeSlowly(const Bpe::Options& options, const std::string& text) {
  std::vector<std::string> parts;
  for (char c : text) parts.emplace_back(1, c);
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < options.merges.size(); ++i) ranks.emplace(options.merges[i], i);
  while (true) {
    size_t best = options.merges.size(), at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto it = ranks.find({parts[i], parts[i + 1]});
      if (it != ranks.end() && it->second < best) {
        best = it->second;
        at = i;
      }
    }
    if (best == options.merges.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(at) + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& part : parts) ids.push_back(options.vocab.find(part)->second);
  return ids;
}

TEST(BpeTest, MergesTheBestRankFirstAndTheLeftmostOfEquals) {
  const auto bpe = Bpe::Create(WithMerges({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "a"}}));
  ASSERT_TRUE(bpe.ok()) << bpe.status();
  EXPECT_THAT(Encode(*bpe, "abc"), ElementsAre('a', 256));
  EXPECT_THAT(Encode(*bpe, "abab"), ElementsAre(257, 257));
  EXPECT_THAT(Encode(*bpe, "aaa"), ElementsAre(259));
  EXPECT_THAT(Encode(*bpe, "aaaa"), ElementsAre(258, 258));
  EXPECT_THAT(Encode(*bpe, "x"), ElementsAre('x'));
  EXPECT_THAT(Encode(*bpe, ""), ElementsAre());
}

TEST(BpeTest, AgreesWithTheDefinitionOnRandomMergesAndTexts) {
  std::mt19937 random(7);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    for (int i = 0; i < 30; ++i) {
      std::pair<std::string, std::string> merge(tokens[random() % tokens.size()],
                                                tokens[random() % tokens.size()]);
      const std::string merged = merge.first + merge.second;
      if (merged.size() > 9 || std::count(tokens.begin(), tokens.end(), merged) > 0) continue;
      tokens.push_back(merged);
      merges.push_back(std::move(merge));
    }
    const Bpe::Options options = WithMerges(merges);
    const auto bpe = Bpe::Create(options);
    ASSERT_TRUE(bpe.ok()) << bpe.status();
    for (int i = 0; i < 50; ++i) {
      std::string text;
      for (size_t size = random() % 40; text.size() < size;) text.push_back("abc"[random() % 3]);
      ASSERT_EQ(Encode(*bpe, text), EncodeSlowly(options, text)) << text;
    }
  }
}

TEST(BpeTest, IgnoreMergesTakesAWholePieceThatIsAToken) {
  Bpe::Options options = WithMerges({{"a", "b"}});
  options.vocab["xyz"] = 300;
  const auto merging = Bpe::Create(options);
  options.ignore_merges = true;
  const auto whole = Bpe::Create(options);
  ASSERT_TRUE(merging.ok() && whole.ok());
  EXPECT_THAT(Encode(*merging, "xyz"), ElementsAre('x', 'y', 'z'));
  EXPECT_THAT(Encode(*whole, "xyz"), ElementsAre(300));
  EXPECT_THAT(Encode(*whole, "xyzab"), ElementsAre('x', 'y', 'z', 256));
}

// Ids: "▁" 0, "a" 1, "b" 2, bytes 10 to 265, results of merges from 300 on.
Bpe::Options Characters(std::vector<std::pair<std::string, std::string>> merges) {
  Bpe::Options options;
  options.vocab = {{"▁", 0}, {"a", 1}, {"b", 2}};
  for (size_t i = 0; i < merges.size(); ++i) {
    options.vocab[merges[i].first + merges[i].second] = 300 + static_cast<int32_t>(i);
  }
  options.merges = std::move(merges);
  options.byte_fallback.emplace();
  for (int byte = 0; byte < 256; ++byte) (*options.byte_fallback)[byte] = 10 + byte;
  return options;
}

TEST(BpeTest, CharactersWithoutATokenFallBackToBytes) {
  const auto bpe = Bpe::Create(Characters({{"▁", "a"}}));
  ASSERT_TRUE(bpe.ok()) << bpe.status();
  EXPECT_THAT(Encode(*bpe, "▁a\n\u00e9b"), ElementsAre(300, 10 + '\n', 10 + 0xC3, 10 + 0xA9, 2));
}

// Words are encoded one by one as long as no merge reaches over the blank before one.
TEST(BpeTest, MergesOverBlanksAreFoundToo) {
  const auto within = Bpe::Create(Characters({{"▁", "▁"}, {"▁▁", "a"}, {"a", "b"}}));
  const auto across = Bpe::Create(Characters({{"a", "▁"}, {"a▁", "b"}, {"▁", "b"}}));
  ASSERT_TRUE(within.ok() && across.ok());
  EXPECT_THAT(Encode(*within, "ab▁▁ab▁b"), ElementsAre(302, 301, 2, 0, 2));
  EXPECT_THAT(Encode(*across, "a▁b"), ElementsAre(301));
}

TEST(BpeTest, RefusesMergesAndBytesWithoutTokens) {
  Bpe::Options options = WithMerges({{"a", "b"}});
  options.merges.emplace_back("ab", "c");
  EXPECT_THAT(std::string(Bpe::Create(options).status().message()), HasSubstr("model.merges[1]"));
  options = WithMerges({});
  options.vocab.erase("A");
  EXPECT_THAT(std::string(Bpe::Create(options).status().message()), HasSubstr("byte 65"));
}

TEST(BpeTest, AMegabyteInOnePieceIsMergedInTime) {
  // Chains of merges, 1 to 64 letters; finding each by a scan would take 10¹² steps.
  std::vector<std::pair<std::string, std::string>> merges;
  for (size_t size = 1; size < 64; size *= 2) {
    merges.emplace_back(std::string(size, 'e'), std::string(size, 'e'));
  }
  const auto bpe = Bpe::Create(WithMerges(merges));
  ASSERT_TRUE(bpe.ok()) << bpe.status();
  EXPECT_EQ(Encode(*bpe, std::string(1 << 20, 'e')), std::vector<int32_t>((1 << 20) / 64, 261));
}

}  // namespace
}  // namespace winnow
