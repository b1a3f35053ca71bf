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

// RESOURCE_EXHAUSTED and UNAVAILABLE: the same call may succeed later, perhaps elsewhere. Every
// other code: never as it is.
inline bool IsRetryable(const absl::Status& status) {
  return status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kUnavailable;
}

}  // namespace winnow
