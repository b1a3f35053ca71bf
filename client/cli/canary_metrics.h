#pragma once

#include <string>

#include "common/metrics.h"

namespace winnow {

// How one question of a canary went.
enum class CanaryOutcome { kRight, kWrong, kError };

// Whether the answer holds what was expected, whatever their letters' case.
bool IsRightAnswer(const std::string& answer, const std::string& expected);

// What `winnow canary` says of its questions (docs/design.md §7), all present from the start.
// Thread-safe.
class CanaryMetrics {
 public:
  explicit CanaryMetrics(MetricsRegistry& registry);

  // `now_s`: seconds since the epoch. Without an answer, times are 0.
  void OnAnswer(CanaryOutcome outcome, double now_s, double ttft_s, double total_s);

 private:
  prometheus::Counter& right_;
  prometheus::Counter& wrong_;
  prometheus::Counter& error_;
  prometheus::Gauge& is_right_;
  prometheus::Gauge& last_run_;
  prometheus::Gauge& ttft_;
  prometheus::Gauge& duration_;
};

}  // namespace winnow
