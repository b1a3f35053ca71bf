#pragma once

#include <map>
#include <string>

#include "common/metrics.h"
#include "decode_worker/decode_core.h"
#include "worker/nccl_aborts.h"

namespace winnow {

// The metrics of a decode worker (docs/design.md §7), all present from the start. Thread-safe.
class DecodeMetrics final : public DecodeEvents {
 public:
  explicit DecodeMetrics(MetricsRegistry& registry)
      : batch_(registry.Histogram("winnow_decode_batch_size", "Sequences in a decode step.",
                                  {1, 2, 4, 8, 16, 32, 64, 128})),
        inter_token_(registry.Histogram(
            "winnow_inter_token_latency_seconds",
            "Duration of a decode step: one token of each sequence in the batch.",
            metric_grids::InterToken())),
        tokens_(registry.Counter("winnow_generation_tokens_total", "Tokens made by decode steps.")),
        blocks_free_(registry.Gauge("winnow_kv_blocks", "KV blocks.", {{"state", "free"}})),
        blocks_used_(registry.Gauge("winnow_kv_blocks", "KV blocks.", {{"state", "used"}})),
        reservations_(
            registry.Gauge("winnow_kv_reservations_active", "Reservations open or decoding.")),
        leases_expired_(registry.Counter("winnow_kv_leases_expired_total",
                                         "Reservations not renewed in time.")),
        checksum_mismatches_(registry.Counter(
            "winnow_kv_checksum_mismatch_total",
            "Messages of KV whose checksum or framing was wrong; each failed its attempt.")),
        received_bytes_(registry.Counter("winnow_kv_transfer_bytes_total",
                                         "K and V payload bytes, each once.",
                                         {{"direction", "received"}})),
        queue_(registry.Histogram("winnow_request_queue_seconds",
                                  "Waiting before the work on a request began.",
                                  metric_grids::Latency(), {{"where", "decode"}})),
        nccl_aborts_(registry),
        requests_(registry) {
    for (const char* reason : {"expired", "data_loss", "protocol"}) {
      failures_[reason] =
          &registry.Counter("winnow_kv_transfer_failures_total",
                            "Reservations that failed before their commit.", {{"reason", reason}});
    }
  }

  void OnStep(int batch, double seconds, int tokens) override {
    batch_.Observe(batch);
    inter_token_.Observe(seconds);
    tokens_.Increment(tokens);
  }
  void OnJoined(absl::Duration waited) override { queue_.Observe(absl::ToDoubleSeconds(waited)); }
  void OnSequenceEnded(const absl::Status& status) override { requests_.Count(status.code()); }
  void OnKvWritten(int64_t bytes) override {
    received_bytes_.Increment(static_cast<double>(bytes));
  }
  void OnDamagedKv() override { checksum_mismatches_.Increment(); }
  // An abort is the prefill worker's wish, no failure of the transfer.
  void OnReservationEnded(SequenceState state, const absl::Status& why) override {
    if (state == SequenceState::kExpired) {
      leases_expired_.Increment();
      failures_.at("expired")->Increment();
    } else if (state == SequenceState::kFailed) {
      failures_.at(absl::IsDataLoss(why) ? "data_loss" : "protocol")->Increment();
    }
  }
  void OnNcclAbort(const absl::Status& reason) { nccl_aborts_.Count(reason); }
  // Sets the gauges; called before they are read.
  void Refresh(const DecodeCore& core) {
    const DecodeLoad load = core.load();
    blocks_free_.Set(static_cast<double>(load.kv_blocks.free));
    blocks_used_.Set(static_cast<double>(load.kv_blocks.total - load.kv_blocks.free));
    reservations_.Set(static_cast<double>(core.num_active()));
  }

 private:
  prometheus::Histogram& batch_;
  prometheus::Histogram& inter_token_;
  prometheus::Counter& tokens_;
  prometheus::Gauge& blocks_free_;
  prometheus::Gauge& blocks_used_;
  prometheus::Gauge& reservations_;
  prometheus::Counter& leases_expired_;
  prometheus::Counter& checksum_mismatches_;
  prometheus::Counter& received_bytes_;
  prometheus::Histogram& queue_;
  NcclAborts nccl_aborts_;
  RequestCounter requests_;
  std::map<std::string, prometheus::Counter*> failures_;  // by reason
};

}  // namespace winnow
