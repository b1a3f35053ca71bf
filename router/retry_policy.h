#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace winnow {

// What a failed attempt means. Pure.

// Whether another attempt may succeed: after the loss or restart of a worker, a full worker, or
// damaged or lost KV. Never after a bad request or an engine's INTERNAL.
bool MayRetry(const absl::Status& failure);

// Whether a failure is a sign that the worker is broken. Being full, a restart, and the end of the
// request's own time are not.
bool CountsAgainstWorker(const absl::Status& failure);

// The failure that the end of a worker's stream means. UNAVAILABLE stands for the worker's own
// trouble: DEADLINE_EXCEEDED while the request has time left, CANCELLED although nobody cancelled,
// or OK before the work was done.
absl::Status ReadFailure(const absl::Status& ended, absl::Duration time_left);

// The last failure as clients see it, with a code that GenerationService.Generate documents.
// Clients cannot repair identities and leases, so NOT_FOUND, ABORTED and FAILED_PRECONDITION become
// UNAVAILABLE; damaged data and codes outside any contract become INTERNAL. Keeps text and hint.
absl::Status ForClient(const absl::Status& failure);

}  // namespace winnow
