#pragma once

#include "absl/status/status.h"

namespace winnow {

// A failure that a worker tells may not be its own: the peer that it spoke to on behalf of the
// request failed. Travels like the hint of common/retry_hint.h. No effect on an OK status.
void SetPeerFailed(absl::Status& status);
bool IsPeerFailed(const absl::Status& status);

}  // namespace winnow
