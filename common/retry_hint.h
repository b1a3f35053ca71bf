#pragma once

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace winnow {

// A status may say when trying again is worth it. The hint is a payload of the absl::Status, so
// that cores free of gRPC can give one; rpc/grpc_status.h carries it over the wire.

// Rounded up to whole milliseconds, negative delays to 0. No effect on an OK status; replaces an
// earlier hint.
void SetRetryAfter(absl::Status& status, absl::Duration delay);
// The hint, if there is one and it is well-formed.
std::optional<absl::Duration> GetRetryAfter(const absl::Status& status);

}  // namespace winnow
