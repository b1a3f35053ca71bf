#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/deadline.h"
#include "common/trace_context.h"
#include "engine/kv/kv_staging.h"
#include "engine/kv_sink.h"
#include "plan/kv_plan.h"
#include "plan/sampling_params.h"

namespace winnow {

// A request, and the decode worker that gets its prompt's KV.
struct HandoffTarget {
  std::string request_id;
  uint32_t attempt = 0;
  std::string decode_address;
  uint64_t decode_incarnation = 0;  // 0: any
  Deadline deadline = Deadline::Infinite();
  TraceContext trace;  // with a span of this worker's own
};

// One attempt to hand a prompt's KV to one decode worker: Reserve, then Open, then Commit; Abort at
// any time. Callbacks come once, on any thread, and never from inside the call that was given them.
// A failure of the decode worker is marked as the peer's (common/peer_failure.h).
class KvHandoff {
 public:
  // Destroying it before the commit aborts the reservation.
  virtual ~KvHandoff() = default;

  struct Grant {
    std::string reservation_id;
    std::string decode_address;
  };
  virtual void Reserve(const KvPlan& plan, int max_tokens,
                       std::function<void(absl::StatusOr<Grant>)> done) = 0;

  // Opens the push streams after a grant. The sink lives as long as the handoff.
  virtual KvSink* Open(std::shared_ptr<KvStaging> staging) = 0;

  struct Summary {
    int64_t kv_payload_bytes = 0;  // unique K+V bytes sent
    // When the first chunk left, the last chunk was acknowledged, and the commit was answered.
    absl::Time begun, acknowledged, committed;
    absl::Duration credit_stall;  // added up over the streams
  };
  // After the last part went to the sink: waits for every acknowledgement, then commits. Reports
  // errors of the streams, too. INTERNAL and DEADLINE_EXCEEDED may mean that the device did not
  // finish the KV, which then must not be sent again.
  virtual void Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
                      std::function<void(absl::StatusOr<Summary>)> done) = 0;

  // Frees the reservation, if there is one. Idempotent.
  virtual void Abort(const std::string& reason) = 0;
};

class KvHandoffFactory {
 public:
  virtual ~KvHandoffFactory() = default;
  virtual std::shared_ptr<KvHandoff> Create(const HandoffTarget& target) = 0;
};

}  // namespace winnow
