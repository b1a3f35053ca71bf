#pragma once

#include <string>

#include "absl/flags/declare.h"

// host:port of /metrics, /healthz and /readyz; empty: none.
ABSL_DECLARE_FLAG(std::string, http_listen);

namespace winnow {

// What the main functions of the server programs begin with: their flags (ParseProgramFlags) with
// --http-listen, --log-level and --log-format among them, the log of `component`, and stop signals
// that only WaitForStopSignal takes.
void StartServerProgram(int argc, char** argv, const std::string& component,
                        const std::string& usage);

}  // namespace winnow
