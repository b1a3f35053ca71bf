#include "common/json_file.h"

#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/checkpoint/temp_folder.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

class JsonFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<nlohmann::json> Read(const std::string& text) {
    folder_.Write("some.json", text);
    return ReadJsonObject(path_);
  }
  void ExpectRefused(const absl::Status& status, const std::string& why) const {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + ": " + why));
  }

  const TempFolder folder_;
  const std::string path_ = folder_.path() + "/some.json";
};

TEST_F(JsonFileTest, ReadsAnObject) {
  const absl::StatusOr<nlohmann::json> json = Read("{\"a\": [1, {}]}");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ((*json)["a"][0], 1);
}

TEST_F(JsonFileTest, RefusesWhatIsNoObject) {
  EXPECT_EQ(ReadJsonObject(path_).status().code(), absl::StatusCode::kNotFound);
  ExpectRefused(Read("{\"a\":").status(), "not valid JSON");
  ExpectRefused(Read("[]").status(), "expected a JSON object, got array");
  ExpectRefused(Read("{\"a\":" + std::string(1 << 20, '[')).status(), "nested deeper than 64");
}

TEST_F(JsonFileTest, RefusesAFileThatIsTooLarge) {
  folder_.Write("some.json", "{}");
  std::filesystem::resize_file(path_, (256 << 20) + 1);
  ExpectRefused(ReadJsonObject(path_).status(), "expected at most 268435456 bytes");
}

}  // namespace
}  // namespace winnow
