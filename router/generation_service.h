#pragma once

#include <atomic>
#include <memory>

#include "common/clock.h"
#include "common/executor.h"
#include "router/request_driver.h"
#include "router/router_metrics.h"
#include "router/worker_registry.h"
#include "tokenizer/tokenizer.h"
#include "winnow/v1/generation.grpc.pb.h"

namespace winnow {

// The gRPC shell of the router: tokenizes off the gRPC threads, admits, drives, streams text.
class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  struct Options {
    bool allow_explain = false;
    size_t max_request_bytes = 16 << 20;
    absl::Duration default_timeout = absl::Minutes(10);
    RequestDriver::Options driver;
  };
  // All must outlive it.
  GenerationService(const Tokenizer& tokenizer, WorkerClients& clients, WorkerRegistry& registry, const Clock& clock,
                    RouterMetrics& metrics, Executor& executor, Options options)
      : tokenizer_(tokenizer), clients_(clients), registry_(registry), clock_(clock), metrics_(metrics),
        executor_(executor), options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override;

  // Refuses new requests from now on.
  void Drain() { draining_ = true; }
  int64_t num_running() const { return num_running_; }

 private:
  class Generation;
  const Tokenizer& tokenizer_;
  WorkerClients& clients_;
  WorkerRegistry& registry_;
  const Clock& clock_;
  RouterMetrics& metrics_;
  Executor& executor_;
  const Options options_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> num_running_{0};
};

}  // namespace winnow
