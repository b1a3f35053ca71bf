#pragma once

#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "common/program_help.h"

// host:port of /metrics, /healthz and /readyz; empty: none.
ABSL_DECLARE_FLAG(std::string, http_listen);

namespace winnow {

// What the main functions of the server programs begin with: their flags (ParseProgramFlags) with
// --http-listen, --log-level and --log-format among them, the log of `component`, and stop signals
// that only WaitForStopSignal takes. In --help the section of these flags follows `sections`.
void StartServerProgram(int argc, char** argv, const std::string& component,
                        const std::string& usage, std::vector<FlagSection> sections);

}  // namespace winnow
