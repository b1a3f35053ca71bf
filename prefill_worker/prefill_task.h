#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "engine/kv/kv_staging.h"
#include "engine/prefill_engine.h"
#include "plan/prefill_plan.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/prefill_admission.h"
#include "prefill_worker/prefill_job.h"

namespace winnow {

// A job on its way through the scheduler. Only the scheduler's thread touches a task once it was
// submitted.
struct PrefillTask {
  enum class State {
    kQueued,     // waits for a slot
    kReserving,  // waits for the decode worker's grant
    kGranted,    // waits for device memory
    kRunning,    // is in the engine
    kShipping,   // waits for the commit's answer
  };

  PrefillJob job;
  PrefillCallbacks callbacks;
  PrefillAdmission::Entry admission;
  PrefillPlan plan;  // of a resend: what is stored alone
  State state = State::kQueued;
  absl::Time submitted, reserve_begin, token_made;
  double reserve_wait = 0;  // seconds
  std::shared_ptr<KvHandoff> handoff;
  std::shared_ptr<KvStaging> staging;
  int64_t sequence = 0;         // in the engine; 0: not admitted
  int64_t computed_tokens = 0;  // of the prompt
  std::vector<int32_t> tokens;  // of the commit
  PrefillSummary summary;
  bool resent = false;  // its KV was computed before

  bool needs_decode() const { return job.sampling.max_tokens > 1; }
};

// The task of a job that came at `now`. INVALID_ARGUMENT for a job that contradicts itself or that
// the engine's device can never hold.
absl::StatusOr<PrefillTask> MakePrefillTask(const PrefillEngine& engine, PrefillJob job,
                                            PrefillCallbacks callbacks, absl::Time now);

// Why the job has to end now: its caller stopped it, or its deadline passed. OK otherwise.
absl::Status StoppedStatus(const PrefillJob& job, const Clock& clock);

// Fills the task's summary from its output, whose kept positions it takes. REQUIRES: token_made is
// set.
void FillSummary(const PrefillEngine& engine, PrefillOutput& output, PrefillTask& task);

}  // namespace winnow
