#include "common/program_flags.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
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

bool AsksForHelp(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view arg = argv[i];
    if (arg == "--") return false;  // what follows is no flag
    if (arg == "--help" || arg == "-help" || arg == "-h") return true;
  }
  return false;
}

}  // namespace

void ParseProgramFlags(int argc, char** argv, const std::string& usage,
                       const std::vector<FlagSection>& sections) {
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  if (AsksForHelp(argc, argv)) {
    std::fputs(ProgramHelp(program, usage, sections).c_str(), stdout);
    std::exit(EXIT_SUCCESS);
  }
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.version_string = [program] { return VersionLine(program); };
  absl::SetFlagsUsageConfig(config);
  AcceptDashes(argc, argv);
  absl::ParseCommandLine(argc, argv);
}

absl::Status CheckFlagRange(const std::string& flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  const std::string range = high == std::numeric_limits<int64_t>::max()
                                ? absl::StrCat("at least ", low)
                                : absl::StrCat("in [", low, ", ", high, "]");
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " must be ", range, ", got ", value));
}

}  // namespace winnow
