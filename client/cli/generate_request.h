#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/args.h"
#include "winnow/v1/generation.pb.h"

namespace winnow {

// The options of `winnow generate` that make a request.
const std::vector<std::string>& GenerateRequestValues();
const std::vector<std::string>& GenerateRequestFlags();

// INVALID_ARGUMENT names the option at fault. Reads --prompt-file; whether the values make sense is
// the router's to say.
absl::StatusOr<v1::GenerateRequest> ParseGenerateRequest(const Args& args);

}  // namespace winnow
