#include "common/server_flags.h"

#include "absl/flags/flag.h"
#include "common/log.h"
#include "common/process.h"
#include "common/program_flags.h"

ABSL_FLAG(std::string, http_listen, "", "host:port of /metrics, /healthz and /readyz; empty: none");
ABSL_FLAG(winnow::LogLevel, log_level, {}, "trace, debug, info, warn or error");
ABSL_FLAG(winnow::LogFormat, log_format, winnow::LogFormat::kText,
          "text, or json: an object a line");

namespace winnow {

void StartServerProgram(int argc, char** argv, const std::string& component,
                        const std::string& usage, std::vector<FlagSection> sections) {
  sections.push_back({"Logs and the status page", "common/server_flags.cc"});
  ParseProgramFlags(argc, argv, usage, sections);
  InitLog(component, absl::GetFlag(FLAGS_log_level), absl::GetFlag(FLAGS_log_format));
  BlockStopSignals();
}

}  // namespace winnow
