#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "common/backoff.h"
#include "common/clock.h"
#include "rpc/tls.h"
#include "transfer/chunk_codec.h"

namespace winnow {

// What all gRPC handoffs of a prefill worker have in common.
struct KvHandoffOptions {
  uint64_t incarnation = 0;  // of this prefill worker
  std::string layout_digest;
  int tensor_parallel = 1;
  int streams_per_rank = 1;
  uint32_t newest_wire_version = kWireVersion;
  absl::Duration call_timeout = absl::Seconds(5);  // of Reserve, Commit, Renew and Abort
  // The time that a device has for a part of the KV after the part was reported.
  absl::Duration event_timeout = absl::Seconds(120);
  BackoffOptions commit_backoff;
  TlsFiles tls;
  const Clock* clock = nullptr;  // must outlive the handoffs
};

}  // namespace winnow
