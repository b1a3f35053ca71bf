#pragma once

#include <atomic>

#include "common/executor.h"
#include "router/client_tokens.h"
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
    // More at a time, in number or in bytes of their messages, are refused with RESOURCE_EXHAUSTED.
    int64_t max_running = 4096;
    int64_t max_running_bytes = int64_t{1} << 30;
    absl::Duration retry_after = absl::Seconds(1);
  };
  // `tokens` null: whoever comes may ask. It, the executor and what `parts` refers to must outlive
  // the service, and the service the server.
  GenerationService(const GenerationParts& parts, Executor& executor, const ClientTokens* tokens,
                    Options options)
      : parts_(parts), executor_(executor), tokens_(tokens), options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;

  // Refuses new requests from now on (UNAVAILABLE).
  void Drain() { draining_ = true; }
  int64_t num_running() const { return num_running_; }

 private:
  // Whose call it is, with one of their requests taken; null when nobody is asked.
  absl::StatusOr<std::shared_ptr<Client>> Authenticate(const grpc::CallbackServerContext& context);
  // OK takes a place for a request of so many bytes, to be given back.
  absl::Status TakePlace(int64_t bytes);
  void GivePlace(int64_t bytes);

  const GenerationParts parts_;
  Executor& executor_;
  const ClientTokens* const tokens_;
  const Options options_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> num_running_{0};
  std::atomic<int64_t> running_bytes_{0};
};

}  // namespace winnow
