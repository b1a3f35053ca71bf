#pragma once

#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "router/request_driver.h"

namespace winnow {

// The metrics of a router (docs/design.md §7), all present from the start.
class RouterMetrics final : public DriverEvents {
 public:
  explicit RouterMetrics(MetricsRegistry& registry)
      : second_token_(registry.Histogram("winnow_request_second_token_seconds", "Token 0 to token 1: the handoff.",
                                         metric_grids::Latency())),
        duration_ok_(Duration(registry, "ok")), duration_error_(Duration(registry, "error")),
        inflight_(registry.Gauge("winnow_requests_inflight", "Requests received and not ended.")),
        migrations_(registry.Counter("winnow_migrations_total", "Generations moved to another decode worker.",
                                     {{"reason", "decode_lost"}})) {
    for (const char* policy : {"full", "claa"}) {
      for (const char* bucket : kBuckets) {
        ttft_[std::string(policy) + bucket] =
            &registry.Histogram("winnow_request_ttft_seconds", "Received to token 0 written, on the router's clock.",
                                metric_grids::Latency(), {{"policy", policy}, {"prompt_bucket", bucket}});
      }
    }
    for (int code = 0; code <= 16; ++code) {
      const std::string name = absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
      requests_[code] = &registry.Counter("winnow_requests_total", "Ended requests by status.", {{"code", name}});
    }
    for (const char* stage : {"place", "prefill", "resend", "decode"}) {
      retries_[stage] = &registry.Counter("winnow_retries_total", "Attempts made again, by what failed.",
                                          {{"stage", stage}, {"reason", "worker"}});
    }
  }

  void OnReceived() { inflight_.Increment(); }
  void OnFirstToken(const std::string& policy, int64_t prompt_tokens, double seconds) {
    ttft_.at(policy + Bucket(prompt_tokens))->Observe(seconds);
  }
  void OnSecondToken(double seconds) { second_token_.Observe(seconds); }
  void OnEnded(absl::StatusCode code, double seconds) {
    inflight_.Decrement();
    auto it = requests_.find(static_cast<int>(code));
    if (it != requests_.end()) it->second->Increment();
    (code == absl::StatusCode::kOk ? duration_ok_ : duration_error_).Observe(seconds);
  }
  void OnRetry(const char* stage, const absl::Status&) override { retries_.at(stage)->Increment(); }
  void OnMigration(const absl::Status&) override { migrations_.Increment(); }

 private:
  static constexpr const char* kBuckets[] = {"1k", "4k", "16k", "64k", "256k", "inf"};
  static std::string Bucket(int64_t tokens) {
    int64_t limit = 1024;
    for (const char* bucket : kBuckets) {
      if (tokens <= limit) return bucket;
      limit *= 4;
    }
    return "inf";
  }
  static prometheus::Histogram& Duration(MetricsRegistry& registry, const char* outcome) {
    return registry.Histogram("winnow_request_duration_seconds", "Received to ended.", metric_grids::Latency(),
                              {{"outcome", outcome}});
  }

  std::map<std::string, prometheus::Histogram*> ttft_;
  prometheus::Histogram& second_token_;
  prometheus::Histogram& duration_ok_;
  prometheus::Histogram& duration_error_;
  prometheus::Gauge& inflight_;
  prometheus::Counter& migrations_;
  std::map<int, prometheus::Counter*> requests_;
  std::map<std::string, prometheus::Counter*> retries_;
};

}  // namespace winnow
