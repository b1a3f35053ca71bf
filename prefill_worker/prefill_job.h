#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/stop_flag.h"
#include "plan/ledger.h"
#include "plan/sampling_params.h"
#include "plan/selection_config.h"
#include "prefill_worker/kv_handoff.h"

namespace winnow {

// One prefill request, free of gRPC.
struct PrefillJob {
  HandoffTarget target;  // decode_address may be empty only with max_tokens 1
  std::vector<int32_t> prompt_ids;
  SelectionConfig selection;  // resolved
  SamplingParams sampling;
  std::vector<int32_t> forced_tokens;
  bool explain = false;
  int priority = 0;
  std::shared_ptr<StopFlag> stop = std::make_shared<StopFlag>();
};

// What a finished job reports.
struct PrefillSummary {
  Ledger ledger;
  StageTimes stages;
  std::vector<int32_t> kept_positions;  // with explain
  int64_t kv_payload_bytes_sent = 0;
  bool decode_follows = false;
};

// The work that a worker still has to do: winnow.v1.WorkerLoad.
struct PrefillLoad {
  int64_t jobs = 0;
  int64_t tokens = 0;
  absl::Duration time;
};

// A job's events for its caller. All but `accepted` come on the scheduler's thread; none may block.
// Exactly one of `committed` and `failed` comes, as the last event.
struct PrefillCallbacks {
  // The job was accepted; `load` includes it. Comes first, from inside Submit, and must not call
  // the scheduler.
  std::function<void(const PrefillLoad& load)> accepted = [](const PrefillLoad&) {};
  std::function<void(const std::string& decode_address, const std::string& reservation_id)>
      reserved;
  std::function<void(int32_t token, bool is_stop)> token;
  std::function<void(const PrefillSummary&)> committed;
  std::function<void(const absl::Status&)> failed;
};

}  // namespace winnow
