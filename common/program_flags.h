#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"

namespace winnow {

// The command line of a program, read into its absl flags. Flags may be written with dashes
// or underscores. --help (-h) shows `usage` and all of the program's flags, --version the version;
// both exit, and so does a flag that does not exist or does not parse. Changes argv in place.
void ParseProgramFlags(int argc, char** argv, const std::string& usage);

// INVALID_ARGUMENT, with the flag's name, unless low ≤ value ≤ high.
absl::Status CheckFlagRange(const std::string& flag, int64_t value, int64_t low,
                            int64_t high = std::numeric_limits<int64_t>::max());

}  // namespace winnow
