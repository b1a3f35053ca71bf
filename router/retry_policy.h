#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace winnow {

// What a failed attempt means. Pure.

// What another attempt may cure: a worker that is gone, full or restarted, KV that was damaged or
// lost. Never a bad request, nor an engine's INTERNAL.
bool MayRetry(const absl::Status& failure);

// What speaks against the worker that it comes from. Not being full or restarted, nor a request's
// own end.
bool CountsAgainstWorker(const absl::Status& failure);

// A worker's words as the router takes them. DEADLINE_EXCEEDED and CANCELLED while the request has
// time left and nobody cancelled it are the worker's own trouble, and so is a stream that ended
// well too early: UNAVAILABLE.
absl::Status ReadFailure(const absl::Status& ended, absl::Duration time_left);

// The last failure as clients see it: only codes of GenerationService.Generate. Identities and
// leases are not theirs to repair, so NOT_FOUND, ABORTED and FAILED_PRECONDITION become
// UNAVAILABLE; damage and what no contract allows become INTERNAL. Keeps the text and the hint.
absl::Status ForClient(const absl::Status& failure);

}  // namespace winnow
