#include "client/cli/args.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<Args> Parse(const std::vector<std::string>& words) {
  return Args::Parse(words, {"n", "list", "text"}, {"flag", "help"});
}

TEST(ArgsTest, ReadsBothFormsAndTheLastOneWins) {
  const auto args = Parse({"--n", "1", "--n=2", "--flag", "--text="});
  ASSERT_TRUE(args.ok()) << args.status();
  EXPECT_EQ(*args->GetInt<int32_t>("n"), 2);
  EXPECT_THAT(args->GetAll("n"), ElementsAre("1", "2"));
  EXPECT_TRUE(args->Has("flag"));
  EXPECT_EQ(args->Get("text", "x"), "");
  EXPECT_EQ(args->Get("list", "x"), "x");
}

TEST(ArgsTest, AValueMayLookLikeAnOption) {
  EXPECT_EQ(Parse({"--text", "--flag"})->Get("text"), "--flag");
  EXPECT_EQ(Parse({"--n", "-5"})->Get("n"), "-5");
}

TEST(ArgsTest, ShortHelpIsHelp) { EXPECT_TRUE(Parse({"-h"})->Has("help")); }

TEST(ArgsTest, RefusesWhatItDoesNotKnow) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows = {
      {{"word"}, "unexpected argument 'word'"},
      {{"-x"}, "unexpected argument '-x'"},
      {{"--nope"}, "unknown option --nope"},
      {{"--n"}, "--n needs a value"},
      {{"--flag=1"}, "--flag takes no value"},
      {{"--text", "a\xff"}, "--text: not valid UTF-8 at byte 1"},
  };
  for (const auto& [words, text] : rows) {
    EXPECT_THAT(std::string(Parse(words).status().message()), HasSubstr(text));
  }
}

TEST(ArgsTest, IntegersAreWholeAndFit) {
  EXPECT_EQ(*Parse({"--n=18446744073709551615"})->GetInt<uint64_t>("n"), UINT64_MAX);
  EXPECT_EQ(*Parse({"--n=-2147483648"})->GetInt<int32_t>("n"), INT32_MIN);
  for (const char* bad : {"", "x", "1.5", "2147483648", "1 2"}) {
    const auto args = Parse({"--n", bad});
    EXPECT_THAT(std::string(args->GetInt<int32_t>("n").status().message()),
                HasSubstr("--n: expected an integer in [-2147483648, 2147483647], got '"))
        << bad;
  }
  EXPECT_FALSE(Parse({"--n=-1"})->GetInt<uint64_t>("n").ok());
  EXPECT_FALSE(Parse({"--n=18446744073709551616"})->GetInt<uint64_t>("n").ok());
}

TEST(ArgsTest, ListsHaveNoHoles) {
  EXPECT_THAT(*Parse({"--list=1,2,-3"})->GetInts("list"), ElementsAre(1, 2, -3));
  for (const char* bad : {"", ",", "1,,2", "1,", ",1", "1;2", "1,x"}) {
    EXPECT_FALSE(Parse({"--list", bad})->GetInts("list").ok()) << bad;
  }
}

TEST(ArgsTest, SecondsArePositiveAndFinite) {
  EXPECT_EQ(*Parse({"--n=1.5"})->GetSeconds("n", absl::Seconds(9)), absl::Milliseconds(1500));
  EXPECT_EQ(*Parse({})->GetSeconds("n", absl::Seconds(9)), absl::Seconds(9));
  for (const char* bad : {"nan", "inf", "-1", "0", "soon"}) {
    EXPECT_FALSE(Parse({"--n", bad})->GetSeconds("n", absl::Seconds(9)).ok()) << bad;
  }
}

}  // namespace
}  // namespace winnow
