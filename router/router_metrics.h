#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/metrics.h"
#include "plan/ledger.h"
#include "router/request_driver.h"

namespace winnow {

// Why a request was turned away before any worker saw it.
enum class Rejection {
  kInvalid,
  kUnauthenticated,
  kForbidden,
  kClientLimit,
  kOverload,
  kDraining,
  kNoWorker
};

// The metrics of a router (docs/design.md §7), all present from the start. Thread-safe.
class RouterMetrics final : public DriverEvents {
 public:
  explicit RouterMetrics(MetricsRegistry& registry);

  void OnReceived() { inflight_.Increment(); }
  void OnRejected(Rejection why) { rejections_.at(why)->Increment(); }
  void OnFirstToken(const std::string& policy, int64_t prompt_tokens, double seconds) {
    ttft_.at({policy, Bucket(prompt_tokens)})->Observe(seconds);
  }
  void OnSecondToken(const std::string& policy, double seconds) {
    second_token_.at(policy)->Observe(seconds);
  }
  // A decode worker has the KV of a prompt: committed, and told to the router.
  void OnDecodeReady(double seconds) { decode_ready_.Observe(seconds); }
  // A thread took the request up, to tokenize it.
  void OnTaken(double waited_seconds) { queue_.Observe(waited_seconds); }
  // How many requests wait in the router because all workers are full.
  void OnWaiting(size_t waiting) { waiting_.Set(static_cast<double>(waiting)); }
  // Of a generation that ended well; the router's own stages. Workers count theirs.
  void OnStages(const StageTimes& stages);
  void OnEnded(absl::StatusCode code, double seconds);
  void OnWorkers(v1::WorkerRole role, const WorkerRegistry::Counts& counts);

  void OnRetry(DriverStage stage, const absl::Status& reason) override {
    retries_.at({DriverStageName(stage), RetryReason(reason)})->Increment();
  }
  void OnMigration(const absl::Status& reason) override {
    migrations_.at(RetryReason(reason))->Increment();
  }
  void OnCancelled(DriverStage stage) override { cancellations_.at(stage)->Increment(); }

 private:
  static std::string Bucket(int64_t tokens);
  // "full" (come back later), "lost" (a worker or its memory of the request is gone), "damaged".
  static std::string RetryReason(const absl::Status& reason);

  std::map<std::pair<std::string, std::string>, prometheus::Histogram*> ttft_;
  std::map<std::string, prometheus::Histogram*> second_token_;
  std::map<std::string, prometheus::Histogram*> stages_;
  std::map<std::string, prometheus::Histogram*> duration_;
  prometheus::Gauge& inflight_;
  prometheus::Gauge& waiting_;
  std::map<std::pair<std::string, std::string>, prometheus::Gauge*> workers_;
  prometheus::Histogram& decode_ready_;
  prometheus::Histogram& queue_;
  RequestCounter requests_;
  std::map<Rejection, prometheus::Counter*> rejections_;
  std::map<std::pair<std::string, std::string>, prometheus::Counter*> retries_;
  std::map<std::string, prometheus::Counter*> migrations_;
  std::map<DriverStage, prometheus::Counter*> cancellations_;
};

}  // namespace winnow
