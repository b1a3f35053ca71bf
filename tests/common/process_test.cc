#include "common/process.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& listen) {
  static const std::atomic<bool> ready{true};
  return StartStatusPages(listen, ready, [] { return std::string(); });
}

TEST(StatusPagesTest, ListenWhereTheFlagSays) {
  for (const std::string listen : {"127.0.0.1:0", ":0", "0"}) {
    const auto pages = Start(listen);
    ASSERT_TRUE(pages.ok()) << listen << ": " << pages.status();
    EXPECT_GT((*pages)->port(), 0);
  }
  EXPECT_EQ(*Start(""), nullptr);
}

TEST(StatusPagesTest, SayWhatIsWrongWithTheFlag) {
  for (const auto& [listen, why] : {std::pair("localhost", "no port"),
                                    std::pair("127.0.0.1:70000", "'70000' is not a number in"),
                                    std::pair("[::1:80", "'[' without ']'")}) {
    const absl::Status status = Start(listen).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), StartsWith("--http-listen: address '"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
  }
}

// Brackets are no part of an address.
TEST(StatusPagesTest, ListenOnIpv6) {
  const auto pages = Start("[::1]:0");
  if (absl::IsUnavailable(pages.status())) {
    EXPECT_THAT(std::string(pages.status().message()), HasSubstr("[::1]:0"));
    GTEST_SKIP() << "no IPv6 here";
  }
  EXPECT_TRUE(pages.ok()) << pages.status();
}

}  // namespace
}  // namespace winnow
