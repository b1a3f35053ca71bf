#include "common/log.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/utf8.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_color_sinks.h"

namespace winnow {
namespace {

// Of the line that this thread is logging. spdlog formats a line on the thread that logs it, and
// offers no other way to bring fields along.
thread_local const RequestTag* current_tag = nullptr;

// Their places are spdlog's numbers.
constexpr std::array<const char*, 5> kLevelNames = {"trace", "debug", "info", "warn", "error"};
static_assert(spdlog::level::trace == 0 && spdlog::level::err == 4);

std::string_view View(spdlog::string_view_t text) { return {text.data(), text.size()}; }

// `text` as a JSON string; what is not UTF-8 becomes U+FFFD.
void AppendJson(std::string_view text, std::string& out) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const auto c = static_cast<unsigned char>(text[at]);
    const int length = Utf8Length(text, at);
    if (length == 0) {
      AppendUtf8(0xFFFD, out);
      at += InvalidUtf8Length(text, at);
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text[at];
    } else if (c < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out.append(text.substr(at, length));
    }
    at += length;
  }
  out += '"';
}

class TextFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    if (current_tag == nullptr) {
      pattern_.format(line, out);
      return;
    }
    const std::string text =
        absl::StrCat(std::string(View(line.payload)), " request_id=", current_tag->request_id,
                     " trace_id=", current_tag->trace_id);
    spdlog::details::log_msg tagged = line;
    tagged.payload = text;
    pattern_.format(tagged, out);
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<TextFormatter>();
  }

 private:
  spdlog::pattern_formatter pattern_{"%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %v"};
};

class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    std::string json = absl::StrCat(
        "{\"time\":\"",
        absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromChrono(line.time), absl::UTCTimeZone()),
        "\"");
    const auto add = [&json](const char* field, std::string_view value) {
      absl::StrAppend(&json, ",\"", field, "\":");
      AppendJson(value, json);
    };
    add("level", View(spdlog::level::to_string_view(line.level)));
    add("component", View(line.logger_name));
    if (current_tag != nullptr) {
      add("request_id", current_tag->request_id);
      add("trace_id", current_tag->trace_id);
    }
    add("message", View(line.payload));
    json += "}\n";
    out.append(json.data(), json.data() + json.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

}  // namespace

bool AbslParseFlag(absl::string_view text, LogFormat* format, std::string* error) {
  if (text != "text" && text != "json") {
    *error = "expected text or json";
    return false;
  }
  *format = text == "json" ? LogFormat::kJson : LogFormat::kText;
  return true;
}

std::string AbslUnparseFlag(LogFormat format) {
  return format == LogFormat::kJson ? "json" : "text";
}

bool AbslParseFlag(absl::string_view text, LogLevel* level, std::string* error) {
  const auto name = std::find(kLevelNames.begin(), kLevelNames.end(), text);
  if (name == kLevelNames.end()) {
    *error = "expected trace, debug, info, warn or error";
    return false;
  }
  level->level = static_cast<spdlog::level::level_enum>(name - kLevelNames.begin());
  return true;
}

std::string AbslUnparseFlag(LogLevel level) { return kLevelNames.at(level.level); }

std::unique_ptr<spdlog::formatter> MakeLogFormatter(LogFormat format) {
  if (format == LogFormat::kJson) return std::make_unique<JsonFormatter>();
  return std::make_unique<TextFormatter>();
}

void InitLog(const std::string& component, LogLevel level, LogFormat format) {
  auto logger = spdlog::stderr_color_mt(component);
  logger->set_formatter(MakeLogFormatter(format));
  logger->set_level(level.level);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void LogRequest(spdlog::level::level_enum level, const RequestTag& tag, const std::string& text) {
  if (!spdlog::should_log(level)) return;
  current_tag = &tag;
  spdlog::log(level, "{}", text);
  current_tag = nullptr;
}

}  // namespace winnow
