#pragma once

#include "absl/status/status.h"
#include "common/metrics.h"

namespace winnow {

// winnow_nccl_aborts_total{reason}: how often the ranks of a worker gave their collectives up.
// Moves only where ranks talk through NCCL. Thread-safe.
class NcclAborts {
 public:
  explicit NcclAborts(MetricsRegistry& registry)
      : late_(Make(registry, "late")),
        error_(Make(registry, "error")),
        rank_(Make(registry, "rank")) {}

  // `reason` is that of NcclGroup::Options::on_abort.
  void Count(const absl::Status& reason) {
    if (absl::IsDeadlineExceeded(reason)) {
      late_.Increment();
    } else if (absl::IsInternal(reason)) {
      error_.Increment();
    } else {
      rank_.Increment();  // a rank's own failure made it call the others off
    }
  }

 private:
  static prometheus::Counter& Make(MetricsRegistry& registry, const char* reason) {
    return registry.Counter("winnow_nccl_aborts_total", "Collectives given up, by reason.",
                            {{"reason", reason}});
  }

  prometheus::Counter& late_;
  prometheus::Counter& error_;
  prometheus::Counter& rank_;
};

}  // namespace winnow
