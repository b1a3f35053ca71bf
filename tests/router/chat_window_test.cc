#include "router/chat_window.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace winnow {
namespace {

class ChatWindowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::temp_directory_path() / ("chat_window_" + std::to_string(getpid()));
    std::filesystem::create_directories(dir_);
    const std::filesystem::path demo = std::string(WINNOW_SOURCE_DIR) + "/models/demo";
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
      std::filesystem::copy_file(demo / name, dir_ / name,
                                 std::filesystem::copy_options::overwrite_existing);
    }
    tokenizer_ = *Tokenizer::Create(dir_.string());
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void WriteProfile(const std::string& text) { std::ofstream(dir_ / "claa.json") << text; }
  absl::StatusOr<std::optional<int>> Offset(int wanted) {
    return ChatWindowOffset(dir_.string(), *tokenizer_, wanted);
  }

  std::filesystem::path dir_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

// The demo template ends in <|end|><|assistant|>.
TEST_F(ChatWindowTest, IsTheTemplatesSuffixByItself) {
  EXPECT_EQ(tokenizer_->chat_suffix_tokens(), 2);
  EXPECT_EQ(*Offset(-1), 2);
  WriteProfile(R"({"window": 8})");
  EXPECT_EQ(*Offset(-1), 2);
}

TEST_F(ChatWindowTest, AProfileThatSetsItCounts) {
  WriteProfile(R"({"window_offset": 0})");
  EXPECT_EQ(*Offset(-1), std::nullopt);
}

TEST_F(ChatWindowTest, TheFlagStandsAboveBoth) {
  WriteProfile(R"({"window_offset": 0})");
  EXPECT_EQ(*Offset(0), 0);
  EXPECT_EQ(*Offset(7), 7);
}

TEST_F(ChatWindowTest, ABadProfileIsAnError) {
  WriteProfile("{");
  EXPECT_EQ(Offset(-1).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace winnow
