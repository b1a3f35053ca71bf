#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "spdlog/spdlog.h"

namespace winnow {

// How log lines look: "time level [component] text", or a JSON object each with the fields time,
// level, component and message. Lines about a request also have request_id and trace_id: as fields,
// or as "request_id=… trace_id=…" behind the text.
enum class LogFormat { kText, kJson };
// As the value of a flag: text or json.
bool AbslParseFlag(absl::string_view text, LogFormat* format, std::string* error);
std::string AbslUnparseFlag(LogFormat format);

// The least that is logged. As the value of a flag: trace, debug, info, warn or error.
struct LogLevel {
  spdlog::level::level_enum level = spdlog::level::info;
};
bool AbslParseFlag(absl::string_view text, LogLevel* level, std::string* error);
std::string AbslUnparseFlag(LogLevel level);

// Sets the process-wide spdlog logger: stderr. Call once from main. Prompts and generated text are
// never logged.
void InitLog(const std::string& component, LogLevel level, LogFormat format);

// spdlog's formatter of our lines.
std::unique_ptr<spdlog::formatter> MakeLogFormatter(LogFormat format);

// Whose a line is.
struct RequestTag {
  std::string request_id;
  std::string trace_id;
};
void LogRequest(spdlog::level::level_enum level, const RequestTag& tag, const std::string& text);

}  // namespace winnow
