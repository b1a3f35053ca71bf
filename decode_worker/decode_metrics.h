#pragma once

#include "common/metrics.h"
#include "decode_worker/decode_scheduler.h"
#include "engine/kv/paged_kv.h"

namespace winnow {

// The metrics of a decode worker (docs/design.md §7), all present from the start.
class DecodeMetrics final : public DecodeEvents {
 public:
  explicit DecodeMetrics(MetricsRegistry& registry)
      : batch_(registry.Histogram("winnow_decode_batch_size", "Sequences in a decode step.",
                                  {1, 2, 4, 8, 16, 32, 64, 128})),
        inter_token_(registry.Histogram("winnow_inter_token_latency_seconds", "Duration of a decode step.",
                                        metric_grids::InterToken())),
        tokens_(registry.Counter("winnow_generation_tokens_total", "Tokens made by decode steps.")),
        blocks_free_(registry.Gauge("winnow_kv_blocks", "KV blocks.", {{"state", "free"}})),
        blocks_used_(registry.Gauge("winnow_kv_blocks", "KV blocks.", {{"state", "used"}})),
        reservations_(registry.Gauge("winnow_kv_reservations_active", "Reservations open or decoding.")) {}

  void OnStep(int batch, double seconds, int tokens) override {
    batch_.Observe(batch);
    inter_token_.Observe(seconds);
    tokens_.Increment(tokens);
  }
  // What is read when somebody asks.
  void Refresh(const PagedKv& kv, const ReservationTable& table) {
    const auto free = static_cast<double>(kv.free_blocks());
    blocks_free_.Set(free);
    blocks_used_.Set(static_cast<double>(kv.total_blocks()) - free);
    reservations_.Set(static_cast<double>(table.num_active()));
  }

 private:
  prometheus::Histogram& batch_;
  prometheus::Histogram& inter_token_;
  prometheus::Counter& tokens_;
  prometheus::Gauge& blocks_free_;
  prometheus::Gauge& blocks_used_;
  prometheus::Gauge& reservations_;
};

}  // namespace winnow
