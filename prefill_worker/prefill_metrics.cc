#include "prefill_worker/prefill_metrics.h"

#include <algorithm>

#include "engine/select/selection_digest.h"

namespace winnow {
namespace {

// The stages that a prefill worker sees.
const std::map<std::string, double StageTimes::*>& PrefillStages() {
  static const std::map<std::string, double StageTimes::*> stages = {
      {"queue", &StageTimes::queue},
      {"reserve_wait", &StageTimes::reserve_wait},
      {"full_layers", &StageTimes::full_layers},
      {"score", &StageTimes::score},
      {"allreduce", &StageTimes::allreduce},
      {"select", &StageTimes::select},
      {"pruned_layers", &StageTimes::pruned_layers},
      {"head", &StageTimes::head}};
  return stages;
}

std::string WasteReason(const absl::Status& status) {
  if (absl::IsCancelled(status)) return "cancelled";
  return absl::IsDeadlineExceeded(status) ? "deadline" : "failed";
}

std::string TransferFailure(const absl::Status& status) {
  if (absl::IsResourceExhausted(status)) return "refused";
  if (absl::IsUnavailable(status)) return "lost";
  return absl::IsDataLoss(status) ? "data_loss" : "protocol";
}

prometheus::Histogram& Overlapped(MetricsRegistry& registry, const char* stage) {
  return registry.Histogram("winnow_overlapped_seconds",
                            "Work for a request that token 0 does not wait for.",
                            metric_grids::Stages(), {{"stage", stage}});
}

}  // namespace

PrefillMetrics::PrefillMetrics(MetricsRegistry& registry, int tensor_parallel)
    : requests_(registry),
      nccl_aborts_(registry),
      ttft_(registry.Histogram("winnow_prefill_ttft_seconds",
                               "Job received to token 0 made, in the prefill worker.",
                               metric_grids::Latency())),
      queue_(registry.Histogram("winnow_request_queue_seconds",
                                "Waiting before the work on a request began.",
                                metric_grids::Latency(), {{"where", "prefill"}})),
      score_allreduce_(registry.Histogram("winnow_score_allreduce_seconds",
                                          "All-reduce of a pruned prompt's scores over the ranks.",
                                          metric_grids::Stages(),
                                          {{"tp", std::to_string(tensor_parallel)}})),
      prompt_size_(registry.Histogram("winnow_prompt_tokens", "Prompt tokens per finished prefill.",
                                      metric_grids::Tokens())),
      prompt_tokens_(
          registry.Counter("winnow_prompt_tokens_total", "Prompt tokens of finished prefills.")),
      computed_tokens_(
          registry.Counter("winnow_prefill_computed_tokens_total",
                           "Prompt tokens that steps computed, for requests however they ended.")),
      digest_mismatches_(registry.Counter(
          "winnow_selection_digest_mismatch_total",
          "Requests that failed because ranks chose different tokens: must stay 0.")),
      inflight_(registry.Gauge("winnow_requests_inflight", "Requests received and not ended.")),
      queued_seconds_(registry.Gauge(
          "winnow_queued_prefill_seconds",
          "What the prompts waiting and running will take, by the rate of the last steps.")),
      staging_bytes_(registry.Gauge("winnow_kv_staging_bytes",
                                    "Host memory of KV on its way out or retained.")),
      pinned_bytes_(registry.Gauge("winnow_kv_pinned_bytes", "KV retained for a resend.")),
      transfer_(registry.Histogram("winnow_kv_transfer_seconds",
                                   "First chunk sent to commit answered.",
                                   metric_grids::Latency())),
      transfer_exposed_(registry.Histogram(
          "winnow_kv_transfer_exposed_seconds",
          "Token 0 made to commit answered: the part of the handoff that no compute hides.",
          metric_grids::Latency())),
      transfer_size_(registry.Histogram("winnow_kv_transfer_size_bytes",
                                        "K and V payload bytes of a handoff.",
                                        metric_grids::Bytes())),
      overlapped_send_(Overlapped(registry, "kv_send")),
      overlapped_commit_(Overlapped(registry, "commit")),
      sent_bytes_(registry.Counter("winnow_kv_transfer_bytes_total",
                                   "K and V payload bytes, each once.", {{"direction", "sent"}})),
      credit_stall_(registry.Counter(
          "winnow_kv_credit_stall_seconds_total",
          "Time that streams had chunks to send and no credits, added up over the streams.")) {
  for (const auto& [stage, member] : PrefillStages()) {
    stages_[stage] =
        &registry.Histogram("winnow_stage_seconds", "Time on the critical path of token 0.",
                            metric_grids::Stages(), {{"stage", stage}});
  }
  for (const Policy* policy : Policies()) {
    keep_ratio_[policy->name] =
        &registry.Histogram("winnow_keep_ratio", "Kept share of the prompt's tokens.",
                            metric_grids::Ratio(), {{"policy", policy->name}});
  }
  for (const char* segment : {"all", "per_head", "selected"}) {
    for (const char* fate : {"kept", "pruned"}) {
      entries_[std::string(segment) + fate] =
          &registry.Counter("winnow_kv_entries_total", "K,V entries over layers and KV heads.",
                            {{"fate", fate}, {"segment", segment}});
    }
  }
  for (const char* priority : {"low", "normal", "high"}) {
    queued_[priority] = &registry.Gauge(
        "winnow_requests_queued",
        "Jobs that wait for their reservation, for memory, or for others before them.",
        {{"priority", priority}});
  }
  for (const char* reason : {"cancelled", "deadline", "failed"}) {
    wasted_[reason] =
        &registry.Counter("winnow_wasted_tokens_total",
                          "Prompt tokens computed for requests that then failed on this worker.",
                          {{"reason", reason}});
  }
  for (const char* reason : {"refused", "lost", "data_loss", "protocol"}) {
    transfer_failures_[reason] =
        &registry.Counter("winnow_kv_transfer_failures_total", "Handoffs that failed, by reason.",
                          {{"reason", reason}});
  }
}

void PrefillMetrics::OnFinished(const PrefillJob& job, const PrefillSummary& summary,
                                double ttft_seconds) {
  requests_.Count(absl::StatusCode::kOk);
  ttft_.Observe(ttft_seconds);
  const Ledger& ledger = summary.ledger;
  const StageTimes& stages = summary.stages;
  prompt_tokens_.Increment(static_cast<double>(ledger.prompt_tokens));
  prompt_size_.Observe(static_cast<double>(ledger.prompt_tokens));
  for (const auto& [stage, member] : PrefillStages()) stages_.at(stage)->Observe(stages.*member);
  queue_.Observe(stages.queue + stages.reserve_wait);
  if (ledger.kept_tokens < ledger.prompt_tokens) score_allreduce_.Observe(stages.allreduce);
  keep_ratio_.at(job.selection.policy->name)
      ->Observe(static_cast<double>(ledger.kept_tokens) /
                static_cast<double>(std::max<int64_t>(1, ledger.prompt_tokens)));
  CountSegment("all", ledger.all);
  CountSegment("per_head", ledger.per_head);
  CountSegment("selected", ledger.selected);
}

void PrefillMetrics::OnFailed(const PrefillJob&, const absl::Status& status,
                              int64_t wasted_tokens) {
  requests_.Count(status.code());
  wasted_.at(WasteReason(status))->Increment(static_cast<double>(wasted_tokens));
  if (IsSelectionMismatch(status)) digest_mismatches_.Increment();
}

void PrefillMetrics::OnQueued(const PrefillQueue& waiting) {
  queued_.at("low")->Set(static_cast<double>(waiting.low));
  queued_.at("normal")->Set(static_cast<double>(waiting.normal));
  queued_.at("high")->Set(static_cast<double>(waiting.high));
}

void PrefillMetrics::OnTransferred(const KvHandoff::Summary& summary, absl::Duration exposed) {
  transfer_.Observe(absl::ToDoubleSeconds(summary.committed - summary.begun));
  transfer_exposed_.Observe(absl::ToDoubleSeconds(exposed));
  transfer_size_.Observe(static_cast<double>(summary.kv_payload_bytes));
  overlapped_send_.Observe(absl::ToDoubleSeconds(summary.acknowledged - summary.begun));
  overlapped_commit_.Observe(absl::ToDoubleSeconds(summary.committed - summary.acknowledged));
  sent_bytes_.Increment(static_cast<double>(summary.kv_payload_bytes));
  credit_stall_.Increment(absl::ToDoubleSeconds(summary.credit_stall));
}

void PrefillMetrics::OnTransferFailed(const absl::Status& status) {
  transfer_failures_.at(TransferFailure(status))->Increment();
}

void PrefillMetrics::Refresh(const PrefillScheduler& scheduler) {
  inflight_.Set(static_cast<double>(scheduler.num_jobs()));
  queued_seconds_.Set(absl::ToDoubleSeconds(scheduler.queued_time()));
  staging_bytes_.Set(static_cast<double>(scheduler.staging_bytes()));
}

void PrefillMetrics::CountSegment(const std::string& name, const Ledger::Segment& segment) {
  entries_.at(name + "kept")->Increment(static_cast<double>(segment.entries_kept));
  entries_.at(name + "pruned")->Increment(static_cast<double>(segment.entries_pruned));
}

}  // namespace winnow
