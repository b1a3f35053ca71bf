#include "common/host_port.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace winnow {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text) {
  const auto parsed = ParseHostPort(text);
  if (parsed.ok()) return "accepted";
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(parsed.status().message());
}

TEST(HostPortTest, ReadsNamesAndBothIpVersions) {
  EXPECT_EQ(*ParseHostPort("worker-3.svc:7001"), (HostPort{"worker-3.svc", 7001}));
  EXPECT_EQ(*ParseHostPort("10.0.0.7:65535"), (HostPort{"10.0.0.7", 65535}));
  EXPECT_EQ(*ParseHostPort("[::1]:80"), (HostPort{"::1", 80}));
}

TEST(HostPortTest, WritesWhatItReads) {
  for (const std::string text : {"a:1", "127.0.0.1:0", "[fe80::2]:443"}) {
    EXPECT_EQ(ParseHostPort(text)->ToString(), text);
  }
}

TEST(HostPortTest, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf("worker"), HasSubstr("address 'worker': no port"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("no port"));
  EXPECT_THAT(ErrorOf(":80"), HasSubstr("no host"));
  EXPECT_THAT(ErrorOf("[]:80"), HasSubstr("no host"));
  EXPECT_THAT(ErrorOf("a:"), HasSubstr("port ''"));
  EXPECT_THAT(ErrorOf("a:http"), HasSubstr("port 'http'"));
  EXPECT_THAT(ErrorOf("a:-1"), HasSubstr("port '-1'"));
  EXPECT_THAT(ErrorOf("a:65536"), HasSubstr("port '65536'"));
  EXPECT_THAT(ErrorOf("a:99999999999999999999"), HasSubstr("not a number in [0, 65535]"));
  EXPECT_THAT(ErrorOf("::1:80"), HasSubstr("without brackets"));
  EXPECT_THAT(ErrorOf("[::1:80"), HasSubstr("'[' without ']'"));
  EXPECT_THAT(ErrorOf("[::1]80"), HasSubstr("no port"));
}

TEST(HostPortTest, ListensOnLoopbackUnlessTheAddressSaysOtherwise) {
  EXPECT_EQ(*ParseListenAddress(":8000"), (HostPort{"127.0.0.1", 8000}));
  EXPECT_EQ(*ParseListenAddress("8000"), (HostPort{"127.0.0.1", 8000}));
  EXPECT_EQ(*ParseListenAddress("0.0.0.0:8000"), (HostPort{"0.0.0.0", 8000}));
  EXPECT_FALSE(ParseListenAddress("").ok());
  EXPECT_FALSE(ParseListenAddress("0.0.0.0").ok());
}

}  // namespace
}  // namespace winnow
