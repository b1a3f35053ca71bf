#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "router/circuit_breaker.h"
#include "router/load_estimate.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// What the registry remembers of one worker. Not thread-safe.
struct KnownWorker {
  const std::string address;
  const v1::WorkerRole role = v1::WORKER_ROLE_UNSPECIFIED;
  CircuitBreaker breaker;
  bool ready = false;
  bool draining = false;               // no source names the worker any more
  std::optional<v1::WorkerInfo> info;  // the last answer

  // Work in tokens.
  int64_t outstanding = 0;  // of this router, until it is released
  int64_t unaccepted = 0;   // the part of it that a prefill worker has not answered yet
  int64_t others = 0;       // of other routers, by a decode worker's last answer
  LoadEstimate load;        // of a prefill worker, by all routers

  bool polling = false;     // a poll is under way
  bool poll_again = false;  // news came while it was
  absl::Time next_poll;     // from the start: at once
  absl::Duration retry;     // until the next poll, while there is no answer

  bool may_be_chosen() const { return ready && !draining; }
  int64_t LoadAt(absl::Time now) const {
    if (role == v1::WORKER_ROLE_DECODE) return outstanding + others;
    return load.is_known() ? load.TokensAt(now) + unaccepted : outstanding;
  }
};

}  // namespace winnow
