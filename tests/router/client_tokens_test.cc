#include "router/client_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/retry_hint.h"
#include "router/client_tokens_watcher.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

constexpr char kSearch[] = "search-0123456789abcdef", kBatch[] = "batch-0123456789abcdef";

class ClientTokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "clients-" +
            testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
    Write(std::string(R"({"clients": [{"name": "search", "token": ")") + kSearch +
          R"(", "max_requests": 2}, {"name": "batch", "token": ")" + kBatch +
          R"(", "tokens_per_minute": 600, "min_keep_ratio": 0.2}]})");
  }
  void TearDown() override { std::remove(path_.c_str()); }

  void Write(const std::string& text) {
    std::ofstream(path_) << text;
    // Times of files are coarse: as if it had been written later than all before.
    std::filesystem::last_write_time(
        path_, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(++writes_));
  }
  std::unique_ptr<ClientTokens> Load() {
    auto loaded = ClientTokens::Load(path_, clock_);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }
  static std::string Bearer(const std::string& token) { return "Bearer " + token; }

  FakeClock clock_;
  std::string path_;
  int writes_ = 0;
};

TEST_F(ClientTokensTest, ATokenTellsWhoAsks) {
  const auto tokens = Load();
  EXPECT_EQ((*tokens->Authenticate(Bearer(kSearch)))->name(), "search");
  EXPECT_EQ((*tokens->Authenticate(Bearer(kBatch)))->name(), "batch");
}

TEST_F(ClientTokensTest, EverythingElseIsUnauthenticated) {
  const auto tokens = Load();
  const std::string almost = std::string(kSearch).substr(0, sizeof(kSearch) - 2) + "x";
  for (const std::string& header :
       {std::string(), std::string("Bearer "), std::string(kSearch),
        "bearer " + std::string(kSearch), "Basic " + std::string(kSearch), Bearer(almost),
        Bearer(std::string(kSearch) + "x"), Bearer(std::string(kSearch).substr(1)),
        Bearer("search")}) {
    EXPECT_EQ(tokens->Authenticate(header).status().code(), absl::StatusCode::kUnauthenticated)
        << header;
  }
}

TEST_F(ClientTokensTest, SoManyRequestsAtATime) {
  const auto tokens = Load();
  const auto client = *tokens->Authenticate(Bearer(kSearch));
  EXPECT_EQ(client->Begin(), absl::OkStatus());
  EXPECT_EQ(client->Begin(), absl::OkStatus());
  const absl::Status refused = client->Begin();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetRetryAfter(refused).has_value());
  client->End();
  EXPECT_EQ(client->Begin(), absl::OkStatus());
  const auto other = *tokens->Authenticate(Bearer(kBatch));
  for (int i = 0; i < 100; ++i) EXPECT_EQ(other->Begin(), absl::OkStatus());  // no limit
}

TEST_F(ClientTokensTest, SoManyTokensAMinute) {
  const auto tokens = Load();
  const auto client = *tokens->Authenticate(Bearer(kBatch));
  EXPECT_EQ(client->TakeTokens(500), absl::OkStatus());
  EXPECT_EQ(client->TakeTokens(100), absl::OkStatus());
  const absl::Status refused = client->TakeTokens(300);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetRetryAfter(refused), absl::Seconds(30));
  clock_.Advance(absl::Seconds(29));
  EXPECT_FALSE(client->TakeTokens(300).ok());
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(client->TakeTokens(300), absl::OkStatus());
  clock_.Advance(absl::Hours(1));  // no more than a minute's worth gathers
  EXPECT_EQ(client->TakeTokens(600), absl::OkStatus());
  EXPECT_FALSE(client->TakeTokens(1).ok());
  EXPECT_EQ(client->TakeTokens(601).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*tokens->Authenticate(Bearer(kSearch)))->TakeTokens(1 << 30), absl::OkStatus());
}

TEST_F(ClientTokensTest, TheLowestKeepRatio) {
  const auto tokens = Load();
  const auto client = *tokens->Authenticate(Bearer(kBatch));
  EXPECT_EQ(client->CheckKeepRatio(0.2), absl::OkStatus());
  EXPECT_EQ(client->CheckKeepRatio(0.19).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(ClientTokensTest, AChangedFileIsReadAndWhatWasUsedStaysUsed) {
  const auto tokens = Load();
  const auto client = *tokens->Authenticate(Bearer(kBatch));
  EXPECT_EQ(client->TakeTokens(600), absl::OkStatus());
  EXPECT_EQ(tokens->ReloadIfChanged(), absl::OkStatus());
  Write(
      R"({"clients": [{"name": "batch", "token": "another-0123456789", "tokens_per_minute": 900}]})");
  EXPECT_EQ(tokens->ReloadIfChanged(), absl::OkStatus());
  EXPECT_FALSE(tokens->Authenticate(Bearer(kBatch)).ok());
  EXPECT_FALSE(tokens->Authenticate(Bearer(kSearch)).ok());
  EXPECT_EQ(*tokens->Authenticate(Bearer("another-0123456789")), client);
  EXPECT_EQ(client->TakeTokens(300), absl::OkStatus());
  EXPECT_FALSE(client->TakeTokens(1).ok());
}

TEST_F(ClientTokensTest, ABrokenFileChangesNothingAndIsNamedOnce) {
  const auto tokens = Load();
  Write("{");
  const absl::Status broken = tokens->ReloadIfChanged();
  EXPECT_EQ(broken.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(broken.message()), HasSubstr(path_));
  EXPECT_EQ(tokens->ReloadIfChanged(), absl::OkStatus());
  EXPECT_TRUE(tokens->Authenticate(Bearer(kSearch)).ok());
}

TEST_F(ClientTokensTest, AFileThatIsGoneChangesNothingAndIsNamedOnce) {
  const auto tokens = Load();
  const std::string aside = path_ + ".aside";
  std::filesystem::rename(path_, aside);
  const absl::Status gone = tokens->ReloadIfChanged();
  EXPECT_EQ(gone.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(gone.message()), HasSubstr(path_));
  EXPECT_EQ(tokens->ReloadIfChanged(), absl::OkStatus());
  EXPECT_TRUE(tokens->Authenticate(Bearer(kSearch)).ok());
  std::filesystem::rename(aside, path_);
  EXPECT_EQ(tokens->ReloadIfChanged(), absl::OkStatus());
  std::filesystem::rename(path_, aside);
  EXPECT_FALSE(tokens->ReloadIfChanged().ok());  // news again
  std::filesystem::remove(aside);
}

TEST_F(ClientTokensTest, AWatcherReadsAFileThatChanges) {
  const auto tokens = Load();
  const ClientTokensWatcher watcher(*tokens, clock_, absl::Milliseconds(1));
  Write(R"({"clients": [{"name": "new", "token": "another-0123456789"}]})");
  while (!tokens->Authenticate(Bearer("another-0123456789")).ok()) std::this_thread::yield();
  EXPECT_FALSE(tokens->Authenticate(Bearer(kSearch)).ok());
}

TEST_F(ClientTokensTest, AWatcherEndsWithoutWaitingForItsPeriod) {
  const auto tokens = Load();
  const ClientTokensWatcher watcher(*tokens, clock_, absl::Hours(1));
}

TEST_F(ClientTokensTest, WhatIsWrongIsNamed) {
  const std::string good = R"({"name": "a", "token": "0123456789abcdef")";
  const std::pair<std::string, std::string> cases[] = {
      {"", "not JSON"},
      {"[]", "expected {\"clients\": [...]}"},
      {R"({"clients": [], "more": 1})", "expected {\"clients\": [...]}"},
      {R"({"clients": [3]})", "must be an object"},
      {R"({"clients": [{"token": "0123456789abcdef"}]})", "without a name"},
      {R"({"clients": [{"name": "a", "token": "short"}]})", "at least 16 bytes, has 5"},
      {R"({"clients": [{"name": 7}]})", "name must be a string"},
      {R"({"clients": [)" + good + R"(, "rate": 1}]})", "unknown field 'rate'"},
      {R"({"clients": [)" + good + R"(, "max_requests": -1}]})", "max_requests must be"},
      {R"({"clients": [)" + good + R"(, "max_requests": 1.5}]})", "max_requests must be"},
      {R"({"clients": [)" + good + R"(, "min_keep_ratio": 1.5}]})", "min_keep_ratio must be"},
      {R"({"clients": [)" + good + "}, " + good + "}]}", "the name 'a' is there twice"},
      {R"({"clients": [)" + good + R"(}, {"name": "b", "token": "0123456789abcdef"}]})",
       "the token of 'b' is another's, too"},
  };
  for (const auto& [text, expected] : cases) {
    Write(text);
    const auto loaded = ClientTokens::Load(path_, clock_);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(expected));
  }
  EXPECT_FALSE(ClientTokens::Load("/no/such/file", clock_).ok());
}

}  // namespace
}  // namespace winnow
