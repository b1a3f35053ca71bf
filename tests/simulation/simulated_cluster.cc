#include "tests/simulation/simulated_cluster.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "plan/selection_config.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

SelectionConfig SelectionOf(const PlannedRequest& request, const ModelShape& shape) {
  SelectionConfig selection = DefaultSelectionConfig(shape);
  if (request.keep_ratio >= 1) {
    selection.policy = &kFullPolicy;
  } else {
    selection.keep_ppm = std::llround(request.keep_ratio * 1e6);
  }
  return selection;
}

}  // namespace

SimulatedCluster::SimulatedCluster(Options options)
    : options_(std::move(options)), network_(clock_, options_.latency), random_(options_.seed) {
  spdlog::set_level(spdlog::level::warn);
  size_t threads = 0;
  for (int i = 0; i < options_.decode_workers; ++i) {
    const std::string address = absl::StrCat("decode-", i, ":1");
    decode_[address] = std::make_unique<SimulatedDecodeWorker>(
        clock_, options_.cost, shape_, SimulatedDecodeWorker::Options{.address = address});
    clock_.AwaitThreads(++threads);
  }
  for (int i = 0; i < options_.prefill_workers; ++i) {
    const std::string address = absl::StrCat("prefill-", i, ":1");
    prefill_[address] = std::make_unique<SimulatedPrefillWorker>(
        network_, decode_, options_.cost, shape_,
        SimulatedPrefillWorker::Options{.address = address,
                                        .max_step_rows = options_.max_step_rows,
                                        .scheduler = options_.scheduler});
    clock_.AwaitThreads(++threads);
  }
  for (int i = 0; i < options_.routers; ++i) {
    routers_.push_back(
        std::make_unique<SimulatedRouter>(network_, prefill_, decode_, random_() % 1000));
    clock_.AwaitThreads(++threads);
    Idle(absl::Milliseconds(37));  // they do not poll in step
  }
}

SimulatedCluster::~SimulatedCluster() { clock_.Release(); }

v1::PrefillRequest SimulatedCluster::MakeRequest(const SimulatedOutcome& outcome, int max_tokens) {
  v1::PrefillRequest request;
  request.set_request_id(absl::StrCat("request-", next_request_++));
  request.mutable_prompt_ids()->Resize(static_cast<int>(outcome.planned.prompt_tokens), 1);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_top_p(1);
  *request.mutable_selection() = ToProto(SelectionOf(outcome.planned, shape_));
  request.set_priority(outcome.priority);
  return request;
}

PrefillPlan SimulatedCluster::PlanOf(const PlannedRequest& request) const {
  return MakePrefillPlan(shape_, SelectionOf(request, shape_), request.prompt_tokens);
}

void SimulatedCluster::Ask(SimulatedRouter& router, const Load& load, SimulatedOutcome& outcome) {
  const absl::Time due = clock_.Now();
  const auto end = [this, due, &outcome](const absl::Status& status) {
    outcome.ended = true;
    outcome.status = status;
    outcome.total = clock_.Now() - due;
    --running_;
  };
  DriverCallbacks callbacks;
  callbacks.accepted = [] {};
  callbacks.token = [this, due, &outcome](int32_t index, int32_t, bool) {
    if (index == 0) {
      network_.Send([this, due, &outcome] { outcome.first_token = clock_.Now() - due; });
    }
    return TokenReply::kContinue;
  };
  callbacks.finished = [this, end](const DriverResult&) {
    network_.Send([end] { end(absl::OkStatus()); });
  };
  callbacks.failed = [this, end](const absl::Status& status) {
    network_.Send([end, status] { end(status); });
  };
  const double jitter = std::uniform_real_distribution<double>(0, 1)(random_);
  const Deadline deadline = Deadline::At(due + load.timeout);
  network_.Send([this, &router, &load, &outcome, deadline, jitter, callbacks] {
    const std::weak_ptr<RequestDriver> driver =
        router.Start(MakeRequest(outcome, load.max_tokens), deadline, jitter, callbacks);
    clock_.At(deadline.when(), [driver] {
      if (const auto late = driver.lock()) late->Cancel(absl::StatusCode::kDeadlineExceeded);
    });
  });
}

std::vector<SimulatedOutcome> SimulatedCluster::Run(const Load& load) {
  std::vector<SimulatedOutcome> outcomes(load.requests.size());
  running_ = static_cast<int64_t>(outcomes.size());
  const absl::Time begin = clock_.Now();
  for (size_t i = 0; i < outcomes.size(); ++i) {
    outcomes[i].planned = load.requests[i];
    if (load.urgent_one_in > 0) outcomes[i].priority = random_() % load.urgent_one_in == 0;
    SimulatedRouter& router = *routers_[next_router_++ % routers_.size()];
    clock_.At(begin + load.requests[i].at,
              [this, &router, &load, &outcome = outcomes[i]] { Ask(router, load, outcome); });
  }
  const absl::Duration last =
      load.requests.empty() ? absl::ZeroDuration() : load.requests.back().at;
  clock_.RunUntil(begin + last + load.timeout + absl::Seconds(10),
                  [this] { return running_ == 0; });
  return outcomes;
}

std::vector<SimulatedPrefillWorker*> SimulatedCluster::prefill() const {
  std::vector<SimulatedPrefillWorker*> workers;
  for (const auto& [address, worker] : prefill_) workers.push_back(worker.get());
  return workers;
}

std::vector<SimulatedDecodeWorker*> SimulatedCluster::decode() const {
  std::vector<SimulatedDecodeWorker*> workers;
  for (const auto& [address, worker] : decode_) workers.push_back(worker.get());
  return workers;
}

int64_t SimulatedCluster::jobs_held() const {
  int64_t jobs = 0;
  for (const auto& [address, worker] : prefill_) jobs += worker->scheduler().num_jobs();
  for (const auto& [address, worker] : decode_) jobs += worker->core().load().sequences;
  return jobs;
}

int64_t SimulatedCluster::staging_bytes_held() const {
  int64_t bytes = 0;
  for (const auto& [address, worker] : prefill_) bytes += worker->scheduler().staging_bytes();
  return bytes;
}

int64_t SimulatedCluster::entries_held() const {
  int64_t entries = 0;
  for (const auto& [address, worker] : decode_) entries += worker->used_entries();
  return entries;
}

}  // namespace winnow
