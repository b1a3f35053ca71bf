#include "prefill_worker/prefill_task.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "plan/ledger.h"
#include "prefill_worker/backlog.h"
#include "prefill_worker/batching.h"

namespace winnow {
namespace {

double EngineSeconds(const StageTimes& s) {
  return s.full_layers + s.score + s.allreduce + s.select + s.pruned_layers + s.head;
}

absl::Status CheckJob(const PrefillJob& job, const ModelShape& shape) {
  if (job.sampling.max_tokens > 1 && job.target.decode_address.empty()) {
    return absl::InvalidArgumentError(
        "prefill: decode_address is empty, but max_tokens is more than 1");
  }
  const auto num_tokens = static_cast<int64_t>(job.prompt_ids.size());
  if (num_tokens < 1 || num_tokens + job.sampling.max_tokens - 1 > shape.max_context) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefill: prompt tokens + max_tokens - 1 must be in [1, ", shape.max_context,
                     "], got ", num_tokens, " + ", job.sampling.max_tokens, " - 1"));
  }
  const auto num_forced = static_cast<int>(job.forced_tokens.size());
  if (num_forced > 0 && num_forced >= job.sampling.max_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefill: forced_tokens must be fewer than max_tokens, ",
                     job.sampling.max_tokens, ", got ", num_forced));
  }
  for (const int32_t id : job.forced_tokens) {
    if (id < 0 || id >= shape.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("prefill: a forced token must be in [0, ", shape.vocab_size, "), got ", id));
    }
  }
  return absl::OkStatus();
}

// A prompt that fits only later waits; one that never fits would wait for ever.
absl::Status CheckMemory(const PrefillEngine& engine, const PrefillPlan& plan,
                         const SelectionConfig& selection) {
  const PrefillMemory memory = engine.MemoryFor(plan, selection);
  if (memory.needed <= memory.total) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "prefill: a prompt of ", plan.kv.num_prompt_tokens, " tokens with policy ",
      selection.policy->name, " needs ", memory.needed >> 20,
      " MiB of device memory, this worker has ", memory.total >> 20, " MiB for prompts"));
}

}  // namespace

absl::StatusOr<PrefillTask> MakePrefillTask(const PrefillEngine& engine, PrefillJob job,
                                            PrefillCallbacks callbacks, absl::Time now) {
  WINNOW_RETURN_IF_ERROR(CheckJob(job, engine.shape()));
  const auto num_tokens = static_cast<int64_t>(job.prompt_ids.size());
  PrefillTask task;
  task.plan = MakePrefillPlan(engine.shape(), job.selection, num_tokens);
  WINNOW_RETURN_IF_ERROR(CheckMemory(engine, task.plan, job.selection));
  task.admission = {.priority = job.priority,
                    .is_short = num_tokens <= ShortRows(engine.max_step_rows()),
                    .work = Backlog::WorkOf(task.plan)};
  task.job = std::move(job);
  task.callbacks = std::move(callbacks);
  task.submitted = now;
  return task;
}

absl::Status StoppedStatus(const PrefillJob& job, const Clock& clock) {
  if (job.stop->IsStopped()) {
    return absl::Status(job.stop->reason(), "prefill: the request was stopped by its caller");
  }
  if (job.target.deadline.HasPassed(clock)) {
    return absl::DeadlineExceededError("prefill: the request's deadline passed");
  }
  return absl::OkStatus();
}

void FillSummary(const PrefillEngine& engine, PrefillOutput& output, PrefillTask& task) {
  PrefillSummary& summary = task.summary;
  summary.ledger = MakeLedger(task.plan, engine.kv_element_bytes());
  summary.stages = output.stages;
  summary.stages.reserve_wait = task.reserve_wait;
  // Whatever no other stage explains was waiting.
  summary.stages.queue = std::max(0.0, absl::ToDoubleSeconds(task.token_made - task.submitted) -
                                           task.reserve_wait - EngineSeconds(output.stages));
  if (!task.job.explain) return;
  summary.kept_positions = std::move(output.kept_positions);
  if (!task.plan.is_pruned()) {
    summary.kept_positions.resize(task.plan.kv.num_prompt_tokens);
    std::iota(summary.kept_positions.begin(), summary.kept_positions.end(), 0);
  }
}

}  // namespace winnow
