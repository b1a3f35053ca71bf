#include "common/program_flags.h"

#include <filesystem>
#include <vector>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/version.h"

namespace winnow {
namespace {

// absl's flags are named with underscores.
void AcceptDashes(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    char* arg = argv[i];
    if (arg[0] != '-' || arg[1] != '-') continue;
    for (char* c = arg + 2; *c != '\0' && *c != '='; ++c) {
      if (*c == '-') *c = '_';
    }
  }
}

}  // namespace

void ParseProgramFlags(int argc, char** argv, const std::string& usage) {
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [](absl::string_view file) {
    return !absl::StrContains(file, "absl/");  // whose own flags are in --helpfull
  };
  config.version_string = [program = std::filesystem::path(argv[0]).filename().string()] {
    return VersionLine(program);
  };
  absl::SetFlagsUsageConfig(config);
  AcceptDashes(argc, argv);
  std::vector<char*> arguments(argv, argv + argc);
  std::string help = "--help";
  for (char*& argument : arguments) {
    if (absl::string_view(argument) == "-h") argument = help.data();
  }
  absl::ParseCommandLine(argc, arguments.data());
}

absl::Status CheckFlagRange(const std::string& flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  const std::string range = high == std::numeric_limits<int64_t>::max()
                                ? absl::StrCat("at least ", low)
                                : absl::StrCat("in [", low, ", ", high, "]");
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be ", range, ", got ", value));
}

}  // namespace winnow
