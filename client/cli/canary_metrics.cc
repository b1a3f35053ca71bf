#include "client/cli/canary_metrics.h"

#include "absl/strings/ascii.h"

namespace winnow {
namespace {

prometheus::Counter& Runs(MetricsRegistry& registry, const char* outcome) {
  return registry.Counter("winnow_canary_runs_total",
                          "Questions asked since the start, by outcome.", {{"outcome", outcome}});
}

}  // namespace

bool IsRightAnswer(const std::string& answer, const std::string& expected) {
  return absl::AsciiStrToLower(answer).find(absl::AsciiStrToLower(expected)) != std::string::npos;
}

CanaryMetrics::CanaryMetrics(MetricsRegistry& registry)
    : right_(Runs(registry, "right")),
      wrong_(Runs(registry, "wrong")),
      error_(Runs(registry, "error")),
      is_right_(registry.Gauge("winnow_canary_right",
                               "1 when the last answer held what was expected, else 0.")),
      last_run_(registry.Gauge("winnow_canary_last_run_timestamp_seconds",
                               "When the last question was asked.")),
      ttft_(registry.Gauge("winnow_canary_ttft_seconds",
                           "Time to the first token of the last answer, on the client's clock.")),
      duration_(registry.Gauge("winnow_canary_duration_seconds", "Time of the last answer.")) {}

void CanaryMetrics::OnAnswer(CanaryOutcome outcome, double now_s, double ttft_s, double total_s) {
  switch (outcome) {
    case CanaryOutcome::kRight:
      right_.Increment();
      break;
    case CanaryOutcome::kWrong:
      wrong_.Increment();
      break;
    case CanaryOutcome::kError:
      error_.Increment();
      break;
  }
  is_right_.Set(outcome == CanaryOutcome::kRight ? 1 : 0);
  last_run_.Set(now_s);
  ttft_.Set(ttft_s);
  duration_.Set(total_s);
}

}  // namespace winnow
