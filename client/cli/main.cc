// The `winnow` command.
#include <cstdio>
#include <string>
#include <vector>

#include "client/cli/commands.h"
#include "common/version.h"

namespace winnow {
namespace {

constexpr char kHelp[] =
    R"(winnow: the client of Winnow, a prefill service that keeps the tokens that matter.

  winnow generate …   ask for text
  winnow models …     what a router serves
  winnow load …       ask as many clients would, and measure
  winnow canary …     ask a question with a known answer, for monitoring
  winnow inspect …    what Winnow makes of a model folder
  winnow size …       how many workers a load needs

`winnow COMMAND --help` tells more, `winnow --version` which build this is.
It exits with 0 when all went well; 1 when something failed; 2 for a command line that cannot be; 3 when the
request was refused; 4 when it may be tried again later; 5 when it was cancelled or its time was over.
)";

}  // namespace

int ReportError(const absl::Status& status) {
  std::fprintf(stderr, "winnow: %s: %s\n", absl::StatusCodeToString(status.code()).c_str(),
               std::string(status.message()).c_str());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
      return kExitRefused;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
      return kExitTryLater;
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitCancelled;
    default:
      return kExitError;
  }
}

int ReportUsage(const std::string& command, const absl::Status& status) {
  std::fprintf(stderr, "winnow %s: %s\nTry `winnow %s --help`.\n", command.c_str(),
               std::string(status.message()).c_str(), command.c_str());
  return kExitUsage;
}

}  // namespace winnow

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const std::string command = words.empty() ? "" : words[0];
  const std::vector<std::string> rest(words.begin() + (words.empty() ? 0 : 1), words.end());
  if (command == "generate") return winnow::GenerateCommand(rest);
  if (command == "models") return winnow::ModelsCommand(rest);
  if (command == "load") return winnow::LoadCommand(rest);
  if (command == "canary") return winnow::CanaryCommand(rest);
  if (command == "inspect") return winnow::InspectCommand(rest);
  if (command == "size") return winnow::SizeCommand(rest);
  if (command == "--version") {
    std::fputs(winnow::VersionLine("winnow").c_str(), stdout);
    return winnow::kExitOk;
  }
  const bool help = command == "--help" || command == "-h" || command == "help";
  std::fputs(winnow::kHelp, help ? stdout : stderr);
  return help ? winnow::kExitOk : winnow::kExitUsage;
}
