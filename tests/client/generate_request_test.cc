#include "client/cli/generate_request.h"

#include <cmath>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<v1::GenerateRequest> Request(const std::vector<std::string>& words) {
  const auto args = Args::Parse(words, GenerateRequestValues(), GenerateRequestFlags());
  if (!args.ok()) return args.status();
  return ParseGenerateRequest(*args);
}

std::string WriteFile(const std::string& name, const std::string& bytes) {
  const std::string path = testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(GenerateRequestTest, EveryOptionReachesItsField) {
  const auto request = Request(
      {"--prompt=hi", "--policy=claa", "--keep-ratio=0.25", "--min-prompt-tokens=7",
       "--min-kept-tokens=5", "--explain", "--max-tokens=9", "--temperature=0.5", "--top-k=3",
       "--top-p=0.9", "--seed=18446744073709551615", "--stop=a", "--stop=b", "--ignore-eos"});
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->text(), "hi");
  EXPECT_EQ(request->selection().policy(), "claa");
  EXPECT_EQ(request->selection().keep_ratio(), 0.25);
  EXPECT_EQ(request->selection().min_prompt_tokens(), 7);
  EXPECT_EQ(request->selection().min_kept_tokens(), 5);
  EXPECT_TRUE(request->selection().explain());
  EXPECT_EQ(request->sampling().max_tokens(), 9);
  EXPECT_EQ(request->sampling().temperature(), 0.5);
  EXPECT_EQ(request->sampling().top_k(), 3);
  EXPECT_EQ(request->sampling().top_p(), 0.9);
  EXPECT_EQ(request->sampling().seed(), UINT64_MAX);
  EXPECT_THAT(request->sampling().stop(), ElementsAre("a", "b"));
  EXPECT_TRUE(request->sampling().ignore_eos());
}

TEST(GenerateRequestTest, WhatIsNotSaidIsNotSet) {
  const auto request = Request({"--token-ids=4,5"});
  ASSERT_TRUE(request.ok());
  EXPECT_THAT(request->token_ids().ids(), ElementsAre(4, 5));
  EXPECT_FALSE(request->selection().has_keep_ratio());
  EXPECT_FALSE(request->sampling().has_max_tokens());
  EXPECT_FALSE(request->sampling().has_seed());
}

TEST(GenerateRequestTest, ReadsAFileByteForByte) {
  const std::string bytes("line\r\n\0é\n", 10);
  const std::string path = WriteFile("prompt.txt", bytes);
  EXPECT_EQ(Request({"--prompt-file", path})->text(), bytes);
  EXPECT_EQ(Request({"--prompt-file", path, "--raw"})->raw(), bytes);
}

TEST(GenerateRequestTest, RefusesWithTheOptionsName) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> rows = {
      {{}, "one of --prompt, --prompt-file and --token-ids"},
      {{"--prompt=a", "--token-ids=1"}, "--prompt and --token-ids exclude"},
      {{"--token-ids=1", "--raw"}, "--raw and --token-ids exclude"},
      {{"--token-ids=1,,2"}, "--token-ids"},
      {{"--prompt-file", testing::TempDir()}, "Is a directory"},
      {{"--prompt-file", "/nowhere/x"}, "--prompt-file: cannot read /nowhere/x: No such file"},
      {{"--prompt=a", "--policy=\xff"}, "--policy: not valid UTF-8"},
      {{"--prompt=\xff"}, "--prompt: not valid UTF-8"},
      {{"--prompt=a", "--max-tokens=99999999999"}, "--max-tokens: expected an integer"},
      {{"--prompt=a", "--top-k=99999999999"}, "--top-k"},
      {{"--prompt=a", "--seed=-1"}, "--seed: expected an integer in [0, 18446744073709551615]"},
      {{"--prompt=a", "--keep-ratio=half"}, "--keep-ratio: expected a number, got 'half'"},
  };
  for (const auto& [words, text] : rows) {
    const absl::Status status = Request(words).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(GenerateRequestTest, OddNumbersAreForTheRouterToRefuse) {
  EXPECT_TRUE(std::isnan(Request({"--prompt=a", "--keep-ratio=nan"})->selection().keep_ratio()));
  EXPECT_EQ(Request({"--prompt=a", "--max-tokens=0"})->sampling().max_tokens(), 0);
}

}  // namespace
}  // namespace winnow
