#pragma once

#include <map>
#include <string>

#include "common/metrics.h"
#include "prefill_worker/prefill_scheduler.h"
#include "worker/nccl_aborts.h"

namespace winnow {

// The metrics of a prefill worker (docs/design.md §7), all present from the start.
class PrefillMetrics final : public PrefillEvents {
 public:
  PrefillMetrics(MetricsRegistry& registry, int tensor_parallel);

  void OnFinished(const PrefillJob& job, const PrefillSummary& summary,
                  double ttft_seconds) override;
  void OnFailed(const PrefillJob& job, const absl::Status& status, int64_t wasted_tokens) override;
  void OnComputed(int64_t tokens) override {
    computed_tokens_.Increment(static_cast<double>(tokens));
  }
  void OnQueued(const PrefillQueue& waiting) override;
  void OnPinnedBytes(int64_t bytes) override { pinned_bytes_.Set(static_cast<double>(bytes)); }
  void OnTransferred(const KvHandoff::Summary& summary, absl::Duration exposed) override;
  void OnTransferFailed(const absl::Status& status) override;
  // Any thread.
  void OnNcclAbort(const absl::Status& reason) { nccl_aborts_.Count(reason); }
  // What is read when somebody asks.
  void Refresh(const PrefillScheduler& scheduler);

 private:
  void CountSegment(const std::string& name, const Ledger::Segment& segment);

  RequestCounter requests_;
  NcclAborts nccl_aborts_;
  prometheus::Histogram& ttft_;
  prometheus::Histogram& queue_;
  prometheus::Histogram& score_allreduce_;
  prometheus::Histogram& prompt_size_;
  prometheus::Counter& prompt_tokens_;
  prometheus::Counter& computed_tokens_;
  prometheus::Counter& digest_mismatches_;
  prometheus::Gauge& inflight_;
  prometheus::Gauge& queued_seconds_;
  prometheus::Gauge& staging_bytes_;
  prometheus::Gauge& pinned_bytes_;
  prometheus::Histogram& transfer_;
  prometheus::Histogram& transfer_exposed_;
  prometheus::Histogram& transfer_size_;
  prometheus::Histogram& overlapped_send_;
  prometheus::Histogram& overlapped_commit_;
  prometheus::Counter& sent_bytes_;
  prometheus::Counter& credit_stall_;
  std::map<std::string, prometheus::Histogram*> stages_;
  std::map<std::string, prometheus::Histogram*> keep_ratio_;       // by policy
  std::map<std::string, prometheus::Counter*> entries_;            // by segment + fate
  std::map<std::string, prometheus::Gauge*> queued_;               // by priority
  std::map<std::string, prometheus::Counter*> wasted_;             // by reason
  std::map<std::string, prometheus::Counter*> transfer_failures_;  // by reason
};

}  // namespace winnow
