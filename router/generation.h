#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/log.h"
#include "plan/sampling_params.h"
#include "plan/selection_config.h"
#include "router/request_driver.h"
#include "router/request_slot.h"
#include "router/router_metrics.h"
#include "router/stop_strings.h"
#include "router/worker_registry.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/tokenizer.h"
#include "winnow/v1/generation.pb.h"
#include "wire/message_size.h"

namespace winnow {

struct GenerationOptions {
  bool allow_explain = false;
  int64_t max_request_bytes = kMaxMessageBytes;
  std::optional<int> chat_window_offset;  // for chat prompts, instead of the profile's
  RequestDriver::Options driver;
};

// What all generations of a router share.
struct GenerationParts {
  const Tokenizer& tokenizer;
  WorkerClients& clients;
  WorkerRegistry& registry;
  const Clock& clock;
  Timer& timer;
  RouterMetrics& metrics;
};

// Where a generation's events go, one call at a time. `finish` comes once, last. Neither may block,
// nor call Cancel: a writer that finds its client gone does that from another thread.
struct GenerationSink {
  std::function<void(v1::GenerateResponse)> write;
  std::function<void(const absl::Status&)> finish;
};

// One request from its text to its last event: validates, tokenizes, drives it through the workers,
// turns tokens into text. No gRPC. Keeps itself alive until it has finished. Thread-safe.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // What `parts` and `options` refer to must outlive the generation. The clock starts here. The
  // slot is released before `sink.finish`.
  Generation(const GenerationParts& parts, const GenerationOptions& options,
             v1::GenerateRequest request, RequestSlot slot, GenerationSink sink);

  // Tokenizes on the calling thread, then continues by events. Call once.
  void Begin();
  // The client is gone or its deadline has passed. May be called at any time on any thread, but not
  // from the sink.
  void Cancel();

 private:
  // Validates and tokenizes.
  absl::StatusOr<v1::PrefillRequest> MakePrefillRequest(const v1::GenerateRequest& request);
  absl::Status CheckClient() const;  // its limits, once the number of tokens is known
  TokenReply OnToken(int32_t index, int32_t id, bool is_stop);
  void OnDecodeReady();
  void OnFinished(const DriverResult& result);
  StageTimes Stages(const v1::Committed& committed) const;
  void End(const absl::Status& status);
  bool IsCancelled() const;
  absl::Status CancelStatus() const;
  double SecondsSince(absl::Time begin) const;
  void Log(spdlog::level::level_enum level, const std::string& text) const {
    LogRequest(level, {name_, slot_.trace().trace_id}, text);
  }

  const GenerationParts parts_;
  const GenerationOptions& options_;
  v1::GenerateRequest request_;  // until it is tokenized
  RequestSlot slot_;
  const GenerationSink sink_;
  const absl::Time received_;

  std::string name_;  // the request id that the client knows
  SamplingParams sampling_;
  SelectionConfig selection_;
  int64_t prompt_tokens_ = 0;
  double tokenize_seconds_ = 0;
  absl::Time dispatched_, accepted_, first_token_;
  int64_t completion_tokens_ = 0;
  bool ends_with_stop_token_ = false;
  bool decode_was_ready_ = false;
  StreamDecoder decoder_;
  StopStrings stops_;

  mutable std::mutex mutex_;  // of what follows: Cancel may come before the driver exists
  bool cancelled_ = false;
  std::weak_ptr<RequestDriver> driver_;  // its callbacks own this generation
};

}  // namespace winnow
