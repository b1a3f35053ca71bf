#include "router/router_metrics.h"

#include "plan/policy.h"
#include "wire/worker_info.h"

namespace winnow {
namespace {

constexpr const char* kBuckets[] = {"1k", "4k", "16k", "64k", "256k", "inf"};
constexpr DriverStage kDriverStages[] = {DriverStage::kPlace, DriverStage::kPrefill,
                                         DriverStage::kResend, DriverStage::kDecode};
constexpr const char* kRetryReasons[] = {"full", "lost", "damaged"};

// The stages that a router sees.
const std::map<std::string, double StageTimes::*>& RouterStages() {
  static const std::map<std::string, double StageTimes::*> stages = {
      {"tokenize", &StageTimes::tokenize},
      {"admit", &StageTimes::admit},
      {"dispatch", &StageTimes::dispatch},
      {"relay", &StageTimes::relay}};
  return stages;
}

std::string Outcome(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return "ok";
    case absl::StatusCode::kCancelled:
      return "cancelled";
    case absl::StatusCode::kDeadlineExceeded:
      return "deadline";
    default:
      return "error";
  }
}

}  // namespace

RouterMetrics::RouterMetrics(MetricsRegistry& registry)
    : inflight_(registry.Gauge("winnow_requests_inflight", "Requests received and not ended.")),
      waiting_(registry.Gauge("winnow_requests_waiting",
                              "Requests that wait in the router because all workers are full.")),
      decode_ready_(registry.Histogram("winnow_decode_ready_seconds",
                                       "Received to the first commit at a decode worker.",
                                       metric_grids::Latency())),
      queue_(registry.Histogram("winnow_request_queue_seconds",
                                "Waiting before the work on a request began.",
                                metric_grids::Latency(), {{"where", "router"}})),
      requests_(registry) {
  for (const Policy* row : Policies()) {
    const char* policy = row->name;
    for (const char* bucket : kBuckets) {
      ttft_[{policy, bucket}] = &registry.Histogram(
          "winnow_request_ttft_seconds", "Received to token 0 written, on the router's clock.",
          metric_grids::Latency(), {{"policy", policy}, {"prompt_bucket", bucket}});
    }
    second_token_[policy] = &registry.Histogram("winnow_request_second_token_seconds",
                                                "Token 0 to token 1: the handoff shows here.",
                                                metric_grids::Latency(), {{"policy", policy}});
  }
  for (const auto& [stage, member] : RouterStages()) {
    stages_[stage] =
        &registry.Histogram("winnow_stage_seconds", "Time on the critical path of token 0.",
                            metric_grids::Stages(), {{"stage", stage}});
  }
  for (const char* outcome : {"ok", "error", "cancelled", "deadline"}) {
    duration_[outcome] =
        &registry.Histogram("winnow_request_duration_seconds", "Received to ended.",
                            metric_grids::Latency(), {{"outcome", outcome}});
  }
  for (const char* role : {"prefill", "decode"}) {
    for (const char* state : {"ready", "failing", "unreachable", "draining"}) {
      workers_[{role, state}] =
          &registry.Gauge("winnow_worker_state", "Workers the router knows, by state.",
                          {{"role", role}, {"state", state}});
    }
  }
  const std::map<Rejection, const char*> rejections = {
      {Rejection::kInvalid, "invalid"},     {Rejection::kUnauthenticated, "unauthenticated"},
      {Rejection::kForbidden, "forbidden"}, {Rejection::kClientLimit, "client_limit"},
      {Rejection::kOverload, "overload"},   {Rejection::kDraining, "draining"},
      {Rejection::kNoWorker, "no_worker"}};
  for (const auto& [why, name] : rejections) {
    rejections_[why] =
        &registry.Counter("winnow_rejections_total",
                          "Requests turned away before any worker saw them.", {{"reason", name}});
  }
  for (const char* reason : kRetryReasons) {
    for (const DriverStage stage : kDriverStages) {
      const std::string name = DriverStageName(stage);
      retries_[{name, reason}] =
          &registry.Counter("winnow_retries_total", "Attempts made again, by what failed and why.",
                            {{"stage", name}, {"reason", reason}});
    }
    migrations_[reason] =
        &registry.Counter("winnow_migrations_total", "Generations moved to another decode worker.",
                          {{"reason", reason}});
  }
  for (const DriverStage stage : kDriverStages) {
    cancellations_[stage] = &registry.Counter(
        "winnow_cancellations_total",
        "Requests that their client or their deadline ended, by what they waited for.",
        {{"stage", DriverStageName(stage)}});
  }
}

void RouterMetrics::OnStages(const StageTimes& stages) {
  for (const auto& [stage, member] : RouterStages()) stages_.at(stage)->Observe(stages.*member);
}

void RouterMetrics::OnEnded(absl::StatusCode code, double seconds) {
  inflight_.Decrement();
  requests_.Count(code);
  duration_.at(Outcome(code))->Observe(seconds);
}

void RouterMetrics::OnWorkers(v1::WorkerRole role, const WorkerRegistry::Counts& counts) {
  const std::string name = RoleName(role);
  workers_.at({name, "ready"})->Set(counts.ready);
  workers_.at({name, "failing"})->Set(counts.failing);
  workers_.at({name, "unreachable"})->Set(counts.unreachable);
  workers_.at({name, "draining"})->Set(counts.draining);
}

std::string RouterMetrics::Bucket(int64_t tokens) {
  int64_t limit = 1024;
  for (const char* bucket : kBuckets) {
    if (tokens <= limit) return bucket;
    limit *= 4;
  }
  return "inf";
}

std::string RouterMetrics::RetryReason(const absl::Status& reason) {
  if (absl::IsResourceExhausted(reason)) return "full";
  return absl::IsDataLoss(reason) ? "damaged" : "lost";
}

}  // namespace winnow
