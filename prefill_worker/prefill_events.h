#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/prefill_job.h"

namespace winnow {

// Jobs that wait, by the sign of their priority.
struct PrefillQueue {
  int64_t low = 0, normal = 0, high = 0;
};

// What a PrefillScheduler reports of its work; prefill_metrics.h exports it. All calls come from
// the scheduler's thread.
class PrefillEvents {
 public:
  virtual ~PrefillEvents() = default;
  // A job ended. A resend reports neither of these two: its job ended before.
  virtual void OnFinished(const PrefillJob& job, const PrefillSummary& summary,
                          double ttft_seconds) {}
  // `wasted_tokens` of the job's prompt were computed for nothing.
  virtual void OnFailed(const PrefillJob& job, const absl::Status& status, int64_t wasted_tokens) {}
  // A step of the engine computed this many prompt tokens.
  virtual void OnComputed(int64_t tokens) {}
  // How many jobs wait for a slot, their reservation or device memory.
  virtual void OnQueued(const PrefillQueue& waiting) {}
  // A prompt's KV was handed over. `exposed` is the part of that time which came after token 0, or
  // after the request for a resend.
  virtual void OnTransferred(const KvHandoff::Summary& summary, absl::Duration exposed) {}
  // A reservation or a transfer failed, other than by its caller's wish.
  virtual void OnTransferFailed(const absl::Status& status) {}
  // Bytes of KV that are retained for a resend.
  virtual void OnPinnedBytes(int64_t bytes) {}
};

}  // namespace winnow
