#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/executor.h"
#include "router/client_tokens.h"
#include "router/generation.h"
#include "router/request_slot.h"

namespace winnow {

// The way into the router, whatever protocol a request comes by: authentication, the slots of
// running requests, deadlines, traces, the drain. An adapter per protocol reads headers into an
// Arrival, hands the request over, and turns events and statuses into its own messages. No gRPC.
// Thread-safe.
class FrontDoor {
 public:
  struct Options {
    GenerationOptions generation;
    // Deadline of requests that set none, and the longest for all.
    absl::Duration default_timeout = absl::Minutes(10);
    // Requests that run at a time, and the bytes of their messages together.
    int64_t max_running = 4096;
    int64_t max_running_bytes = int64_t{1} << 30;
    absl::Duration retry_after = absl::Seconds(1);  // the hint of refusals
  };
  // `tokens` null: everybody may call. All references must outlive the front door, and the front
  // door the slots that it gave.
  FrontDoor(const GenerationParts& parts, Executor& executor, const ClientTokens* tokens,
            Options options)
      : parts_(parts), executor_(executor), tokens_(tokens), options_(std::move(options)) {}

  // The trace of a call: a span of the router's own in the caller's trace, or in a new one when
  // `traceparent`, the caller's header, is empty or malformed. Goes back to the caller in any case.
  static TraceContext SpanOf(std::string_view traceparent);

  // The client whose token an "authorization" header carries; null when everybody may call.
  // UNAUTHENTICATED.
  absl::StatusOr<std::shared_ptr<Client>> Authenticate(const std::string& authorization) const;

  // What an adapter knows about a request before anybody looks into it.
  struct Arrival {
    std::string authorization;                 // the header; empty: there is none
    TraceContext trace;                        // from SpanOf
    Deadline deadline = Deadline::Infinite();  // the caller's
    int64_t bytes = 0;                         // of the request's message
  };
  // Admits a request or refuses it. UNAUTHENTICATED: no client has this token. RESOURCE_EXHAUSTED:
  // the client or the router runs as much as it may. UNAVAILABLE: the router drains. The last two
  // carry a retry hint.
  absl::StatusOr<RequestSlot> Admit(Arrival arrival);

  // Runs a request on the executor. The slot is released before `sink.finish`: once a call has
  // ended, the front door may be gone. Cancel the result when the caller goes away.
  std::shared_ptr<Generation> Start(v1::GenerateRequest request, RequestSlot slot,
                                    GenerationSink sink);

  // From now on requests are refused; running ones go on.
  void Drain();
  // Slots that were given and not released.
  int64_t num_running() const;

 private:
  absl::Status AcquireSlot(int64_t bytes);
  void ReleaseSlot(int64_t bytes);

  const GenerationParts parts_;
  Executor& executor_;
  const ClientTokens* const tokens_;
  const Options options_;

  mutable std::mutex mutex_;  // of what follows
  bool draining_ = false;
  int64_t num_running_ = 0;
  int64_t running_bytes_ = 0;
};

}  // namespace winnow
