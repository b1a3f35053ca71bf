#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/stop_flag.h"
#include "common/trace_context.h"
#include "plan/ledger.h"
#include "plan/selection_config.h"
#include "rpc/tls.h"
#include "winnow/v1/generation.grpc.pb.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {

// What a generation gave.
struct GenerateResult {
  std::string request_id;
  std::string trace_id;            // W3C; workers' logs have it, too
  std::string text;                // without the stop id's and nothing after a stop string
  std::vector<int32_t> token_ids;  // the stop id is among them
  int64_t prompt_tokens = 0;
  std::string finish_reason;            // "length", "stop_token" or "stop_string"
  std::vector<int32_t> kept_positions;  // with explain: ascending
  Ledger ledger;
  StageTimes stages;          // seconds
  SelectionConfig selection;  // as it was used
  int prefill_tensor_parallel = 0;
  double ttft_s = 0;         // call → first token, on this machine's clock
  double router_ttft_s = 0;  // received → first token written, on the router's
  double total_s = 0;        // call → end, on this machine's clock
};

// What may be heard while a generation runs; either may be empty. Called on the thread that called
// Generate.
struct GenerateCallbacks {
  std::function<void(int64_t prompt_tokens)> started;
  // index and id are −1 for text that was held back until the end.
  std::function<void(int32_t index, int32_t id, const std::string& text)> token;
};

// How a router is spoken to.
struct ClientOptions {
  std::string token;  // bearer token; empty: none
  std::string
      traceparent;  // W3C trace context that requests belong to; empty: the router makes one
  TlsFiles tls;     // none: plain text
};

// A client of a Winnow router. Thread-safe.
class WinnowClient {
 public:
  // `address` is host:port. INVALID_ARGUMENT when it is not, for bad TLS files, or for a
  // traceparent that is none; whether somebody serves there shows at the first call.
  static absl::StatusOr<std::unique_ptr<WinnowClient>> Create(const std::string& address,
                                                              const ClientOptions& options = {});

  // Runs one generation and waits for its end. `stop`, when given, cancels it from another thread
  // within 100 ms. Errors are those of GenerationService.Generate; RESOURCE_EXHAUSTED and
  // UNAVAILABLE may carry a delay (common/retry_hint.h). INVALID_ARGUMENT also for a prompt that is
  // not valid UTF-8 and for a request of more than 16 MiB, before anything is sent.
  absl::StatusOr<GenerateResult> Generate(const v1::GenerateRequest& request,
                                          absl::Duration timeout,
                                          const GenerateCallbacks& callbacks = {},
                                          const StopFlag* stop = nullptr);

  // The models behind the router. UNAVAILABLE while it knows no worker.
  absl::StatusOr<std::vector<v1::Model>> ListModels(absl::Duration timeout);

 private:
  WinnowClient(const std::shared_ptr<grpc::Channel>& channel, std::string token,
               std::optional<TraceContext> trace);
  const std::string token_;
  const std::optional<TraceContext> trace_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::ModelService::Stub> models_;
};

}  // namespace winnow
