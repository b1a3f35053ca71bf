#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "transfer/sequence_state.h"

namespace winnow {

// What happens in a decode worker, for counters; decode_metrics.h exports them. Calls come from
// several threads, some with locks held: they must neither block nor call the core.
class DecodeEvents {
 public:
  virtual ~DecodeEvents() = default;
  // A decode step ended. `tokens` were drawn; forced tokens do not count.
  virtual void OnStep(int batch, double seconds, int tokens) {}
  // A sequence takes part in its first step, `waited` after its commit.
  virtual void OnJoined(absl::Duration waited) {}
  virtual void OnSequenceEnded(const absl::Status& status) {}
  // K and V bytes were stored, each slot once.
  virtual void OnKvWritten(int64_t bytes) {}
  // A message of KV whose checksum or framing was wrong.
  virtual void OnDamagedKv() {}
  // A reservation ended before its commit: kAborted, kExpired or kFailed.
  virtual void OnReservationEnded(SequenceState state, const absl::Status& why) {}
};

}  // namespace winnow
