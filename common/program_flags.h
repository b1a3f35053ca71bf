#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/program_help.h"

namespace winnow {

// Reads the command line of a program into its absl flags. Flags may be written with dashes or
// underscores. --help (-h) prints ProgramHelp, --version the version; both exit, and so does a flag
// that does not exist or does not parse. Changes argv in place.
void ParseProgramFlags(int argc, char** argv, const std::string& usage,
                       const std::vector<FlagSection>& sections = {});

// INVALID_ARGUMENT, with the flag's name, unless low ≤ value ≤ high.
absl::Status CheckFlagRange(const std::string& flag, int64_t value, int64_t low,
                            int64_t high = std::numeric_limits<int64_t>::max());

}  // namespace winnow
