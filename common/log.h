#pragma once

#include <string>

#include "spdlog/spdlog.h"

namespace winnow {

// Sets the process-wide spdlog logger: stderr, "time level [role] text". Call once from main.
// `level` is one of trace, debug, info, warn, error. Prompts and generated text are never logged.
void InitLog(const std::string& role, const std::string& level);

}  // namespace winnow
