#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "common/metrics.h"
#include "prefill_worker/prefill_scheduler.h"

namespace winnow {

// The metrics of a prefill worker (docs/design.md §7), all present from the start.
class PrefillMetrics final : public PrefillEvents {
 public:
  explicit PrefillMetrics(MetricsRegistry& registry)
      : ttft_(registry.Histogram("winnow_prefill_ttft_seconds",
                                 "Job received to token 0 made, in the prefill worker.",
                                 metric_grids::Latency())),
        prompt_tokens_(
            registry.Counter("winnow_prompt_tokens_total", "Prompt tokens of finished prefills.")),
        prompt_size_(registry.Histogram(
            "winnow_prompt_tokens", "Prompt tokens per finished prefill.", metric_grids::Tokens())),
        inflight_(registry.Gauge("winnow_requests_inflight", "Requests received and not ended.")),
        queued_seconds_(registry.Gauge(
            "winnow_queued_prefill_seconds",
            "What the prompts waiting and running will take, by the rate of the last steps.")),
        staging_bytes_(registry.Gauge("winnow_kv_staging_bytes",
                                      "Host memory of KV on its way out or retained.")),
        pinned_bytes_(registry.Gauge("winnow_kv_pinned_bytes", "KV retained for a resend.")),
        sent_bytes_(registry.Counter("winnow_kv_transfer_bytes_total",
                                     "K and V payload bytes, each once.",
                                     {{"direction", "sent"}})) {
    for (const auto& [name, member] : kStages) {
      stages_[name] =
          &registry.Histogram("winnow_stage_seconds", "Time on the critical path of token 0.",
                              metric_grids::Stages(), {{"stage", name}});
    }
    for (const char* policy : {"full", "claa"}) {
      keep_ratio_[policy] =
          &registry.Histogram("winnow_keep_ratio", "Kept share of the prompt's tokens.",
                              metric_grids::Ratio(), {{"policy", policy}});
    }
    for (const char* segment : {"all", "per_head", "selected"}) {
      for (const char* fate : {"kept", "pruned"}) {
        entries_[std::string(segment) + fate] =
            &registry.Counter("winnow_kv_entries_total", "K,V entries over layers and KV heads.",
                              {{"fate", fate}, {"segment", segment}});
      }
    }
    for (int code = 0; code <= 16; ++code) {
      const std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
      requests_[code] = &registry.Counter("winnow_requests_total", "Finished requests by status.",
                                          {{"code", name}});
    }
  }

  void OnFinished(const PrefillJob& job, const PrefillSummary& summary,
                  double ttft_seconds) override {
    requests_.at(0)->Increment();
    ttft_.Observe(ttft_seconds);
    const Ledger& ledger = summary.ledger;
    prompt_tokens_.Increment(static_cast<double>(ledger.prompt_tokens));
    prompt_size_.Observe(static_cast<double>(ledger.prompt_tokens));
    sent_bytes_.Increment(static_cast<double>(summary.kv_payload_bytes_sent));
    for (const auto& [name, member] : kStages) stages_.at(name)->Observe(summary.stages.*member);
    keep_ratio_.at(SelectionPolicyName(job.selection.policy))
        ->Observe(static_cast<double>(ledger.kept_tokens) /
                  std::max<int64_t>(1, ledger.prompt_tokens));
    CountSegment("all", ledger.all);
    CountSegment("per_head", ledger.per_head);
    CountSegment("selected", ledger.selected);
  }
  void OnFailed(const PrefillJob&, const absl::Status& status) override {
    auto it = requests_.find(static_cast<int>(status.code()));
    if (it != requests_.end()) it->second->Increment();
  }
  // What is read when somebody asks.
  void Refresh(const PrefillScheduler& scheduler) {
    inflight_.Set(static_cast<double>(scheduler.num_jobs()));
    queued_seconds_.Set(absl::ToDoubleSeconds(scheduler.queued_time()));
    staging_bytes_.Set(static_cast<double>(scheduler.staging_bytes()));
  }
  void OnPinnedBytes(int64_t bytes) override { pinned_bytes_.Set(static_cast<double>(bytes)); }

 private:
  // The stages that a prefill worker sees.
  inline static const std::map<std::string, double StageTimes::*> kStages = {
      {"queue", &StageTimes::queue},
      {"reserve_wait", &StageTimes::reserve_wait},
      {"full_layers", &StageTimes::full_layers},
      {"score", &StageTimes::score},
      {"allreduce", &StageTimes::allreduce},
      {"select", &StageTimes::select},
      {"pruned_layers", &StageTimes::pruned_layers},
      {"head", &StageTimes::head}};

  void CountSegment(const std::string& name, const Ledger::Segment& segment) {
    entries_.at(name + "kept")->Increment(static_cast<double>(segment.entries_kept));
    entries_.at(name + "pruned")->Increment(static_cast<double>(segment.entries_pruned));
  }

  prometheus::Histogram& ttft_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Histogram& prompt_size_;
  prometheus::Gauge& inflight_;
  prometheus::Gauge& queued_seconds_;
  prometheus::Gauge& staging_bytes_;
  prometheus::Gauge& pinned_bytes_;
  prometheus::Counter& sent_bytes_;
  std::map<std::string, prometheus::Histogram*> stages_;
  std::map<std::string, prometheus::Histogram*> keep_ratio_;
  std::map<std::string, prometheus::Counter*> entries_;
  std::map<int, prometheus::Counter*> requests_;
};

}  // namespace winnow
