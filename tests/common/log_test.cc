#include "common/log.h"

#include <sstream>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "spdlog/sinks/ostream_sink.h"

namespace winnow {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What the process-wide logger writes while this lives.
class CapturedLog {
 public:
  explicit CapturedLog(LogFormat format) : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(out_);
    auto logger = std::make_shared<spdlog::logger>("router", sink);
    logger->set_formatter(MakeLogFormatter(format));
    spdlog::set_default_logger(logger);
  }
  ~CapturedLog() { spdlog::set_default_logger(before_); }
  std::string text() const { return out_.str(); }

 private:
  std::ostringstream out_;
  std::shared_ptr<spdlog::logger> before_;
};

const RequestTag kTag{"r-1", "4bf92f3577b34da6a3ce929d0e0e4736"};

TEST(LogTest, TextLinesNameTheRequestBehindTheText) {
  CapturedLog log(LogFormat::kText);
  LogRequest(spdlog::level::info, kTag, "ended: OK");
  EXPECT_THAT(
      log.text(),
      EndsWith("[router] ended: OK request_id=r-1 trace_id=4bf92f3577b34da6a3ce929d0e0e4736\n"));
}

TEST(LogTest, JsonLinesHaveFields) {
  CapturedLog log(LogFormat::kJson);
  LogRequest(spdlog::level::warn, kTag, "attempt 1 failed");
  EXPECT_THAT(log.text(), EndsWith(R"("level":"warning","component":"router","request_id":"r-1",)"
                                   R"("trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",)"
                                   R"("message":"attempt 1 failed"})"
                                   "\n"));
  EXPECT_THAT(log.text(), MatchesRegex("\\{\"time\":\"....-..-..T..:..:..\\....Z\",.*\n"));
}

TEST(LogTest, TheNextLineIsNobodysAgain) {
  CapturedLog log(LogFormat::kJson);
  LogRequest(spdlog::level::info, kTag, "ended: OK");
  spdlog::info("listening");
  EXPECT_THAT(log.text(), EndsWith(R"("component":"router","message":"listening"})"
                                   "\n"));
}

TEST(LogTest, JsonHoldsWhateverComes) {
  CapturedLog log(LogFormat::kJson);
  LogRequest(spdlog::level::info, {"a\"b", ""}, "a\\b \"c\"\n\x01 \xE2\x82\xAC \xFF {}");
  EXPECT_THAT(log.text(), HasSubstr(R"("request_id":"a\"b")"));
  EXPECT_THAT(
      log.text(),
      HasSubstr("\"message\":\"a\\\\b \\\"c\\\"\\u000a\\u0001 \xE2\x82\xAC \xEF\xBF\xBD {}\"}"));
}

TEST(LogTest, TheLevelIsAFlagOfFiveValues) {
  for (const char* name : {"trace", "debug", "info", "warn", "error"}) {
    LogLevel level;
    std::string error;
    EXPECT_TRUE(AbslParseFlag(name, &level, &error));
    EXPECT_EQ(level.level, spdlog::level::from_str(name));
    EXPECT_EQ(AbslUnparseFlag(level), name);
  }
  LogLevel level;
  std::string error;
  EXPECT_FALSE(AbslParseFlag("inof", &level, &error));
  EXPECT_EQ(error, "expected trace, debug, info, warn or error");
}

TEST(LogTest, TheFormatIsAFlagOfTwoValues) {
  const std::pair<const char*, LogFormat> values[] = {{"text", LogFormat::kText},
                                                      {"json", LogFormat::kJson}};
  for (const auto& [name, expected] : values) {
    LogFormat format = expected == LogFormat::kText ? LogFormat::kJson : LogFormat::kText;
    std::string error;
    EXPECT_TRUE(AbslParseFlag(name, &format, &error)) << error;
    EXPECT_EQ(format, expected) << name;
    EXPECT_EQ(AbslUnparseFlag(expected), name);
  }
}

TEST(LogTest, NoOtherValueIsAFormat) {
  for (const char* name : {"", "xml", "Text", "json,text"}) {
    LogFormat format = LogFormat::kJson;
    std::string error;
    EXPECT_FALSE(AbslParseFlag(name, &format, &error)) << name;
    EXPECT_EQ(error, "expected text or json");
    EXPECT_EQ(format, LogFormat::kJson) << name;
  }
}

}  // namespace
}  // namespace winnow
