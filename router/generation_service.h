#pragma once

#include <atomic>

#include "common/executor.h"
#include "router/generation.h"
#include "winnow/v1/generation.grpc.pb.h"

namespace winnow {

// The gRPC shell of the router: hands each call to a Generation on the executor, streams its events
// with one write in flight.
class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  struct Options {
    GenerationOptions generation;
    // Of requests that bring none, and the longest for all.
    absl::Duration default_timeout = absl::Minutes(10);
    // More at a time are refused with RESOURCE_EXHAUSTED.
    int64_t max_running = 4096;
    absl::Duration retry_after = absl::Seconds(1);
  };
  // The executor and what `parts` refers to must outlive it, and it the server.
  GenerationService(const GenerationParts& parts, Executor& executor, Options options)
      : parts_(parts), executor_(executor), options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;

  // Refuses new requests from now on (UNAVAILABLE).
  void Drain() { draining_ = true; }
  int64_t num_running() const { return num_running_; }

 private:
  // OK takes a place, to be given back.
  absl::Status TakePlace();

  const GenerationParts parts_;
  Executor& executor_;
  const Options options_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> num_running_{0};
};

}  // namespace winnow
