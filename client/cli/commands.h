#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace winnow {

// What the process returns; `winnow --help` lists them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitRefused = 3;    // INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED,
                                          // FAILED_PRECONDITION
inline constexpr int kExitTryLater = 4;   // UNAVAILABLE, RESOURCE_EXHAUSTED
inline constexpr int kExitCancelled = 5;  // CANCELLED, DEADLINE_EXCEEDED

// Prints "winnow: CODE: sentence" to stderr; returns the exit code.
int ReportError(const absl::Status& status);
// The same for a command line that cannot be.
int ReportUsage(const std::string& command, const absl::Status& status);

// `words` are what follows the command's name.
int GenerateCommand(const std::vector<std::string>& words);
int ModelsCommand(const std::vector<std::string>& words);
int LoadCommand(const std::vector<std::string>& words);
int CanaryCommand(const std::vector<std::string>& words);
int InspectCommand(const std::vector<std::string>& words);
int SizeCommand(const std::vector<std::string>& words);

}  // namespace winnow
