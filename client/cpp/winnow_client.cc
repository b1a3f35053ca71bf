#include "client/cpp/winnow_client.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "rpc/authorization.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/trace_metadata.h"
#include "wire/message_size.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// Protobuf strings must be UTF-8; what is not is refused here with its place, instead of deep
// inside gRPC.
absl::Status CheckUtf8(const char* what, const std::string& text) {
  const size_t bad = FirstInvalidUtf8(text);
  if (bad == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": not valid UTF-8 at byte ", bad));
}

// What no router takes is refused here, too: gRPC would call it RESOURCE_EXHAUSTED, as if it might
// pass later.
absl::Status CheckRequest(const v1::GenerateRequest& request) {
  if (request.ByteSizeLong() > kMaxMessageBytes) {
    return absl::InvalidArgumentError(absl::StrCat("request: at most ", kMaxMessageBytes,
                                                   " bytes, got ", request.ByteSizeLong()));
  }
  WINNOW_RETURN_IF_ERROR(CheckUtf8("prompt", request.text()));
  WINNOW_RETURN_IF_ERROR(CheckUtf8("prompt", request.raw()));
  for (const v1::ChatMessage& message : request.chat().messages()) {
    WINNOW_RETURN_IF_ERROR(CheckUtf8("chat role", message.role()));
    WINNOW_RETURN_IF_ERROR(CheckUtf8("chat message", message.content()));
  }
  for (const std::string& stop : request.sampling().stop()) {
    WINNOW_RETURN_IF_ERROR(CheckUtf8("stop string", stop));
  }
  WINNOW_RETURN_IF_ERROR(CheckUtf8("policy", request.selection().policy()));
  return CheckUtf8("request id", request.request_id());
}

std::string ReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_STOP_TOKEN:
      return "stop_token";
    case v1::FINISH_REASON_STOP_STRING:
      return "stop_string";
    default:
      return "unknown";
  }
}

// Cancels a call when a flag is set, until it goes away.
class CancelWatch {
 public:
  CancelWatch(grpc::ClientContext& context, const StopFlag* stop) {
    if (stop == nullptr) return;
    thread_ = std::thread([this, &context, stop] {
      std::unique_lock<std::mutex> lock(mutex_);
      while (!wake_.wait_for(lock, std::chrono::milliseconds(100), [this] { return done_; })) {
        if (stop->IsStopped()) context.TryCancel();
      }
    });
  }
  ~CancelWatch() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      done_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;
};

absl::Status TakeFinished(const v1::Finished& finished, GenerateResult& result) {
  result.text += finished.text();
  result.prompt_tokens = finished.prompt_tokens();
  result.finish_reason = ReasonName(finished.reason());
  result.ledger = FromProto(finished.ledger());
  result.stages = FromProto(finished.stages());
  result.router_ttft_s = finished.ttft_seconds();
  result.prefill_tensor_parallel = finished.prefill_tensor_parallel();
  WINNOW_ASSIGN_OR_RETURN(result.selection, FromProto(finished.selection()));
  WINNOW_ASSIGN_OR_RETURN(result.kept_positions,
                          DecodePositionDeltas(finished.kept_position_deltas()));
  return absl::OkStatus();
}

}  // namespace

WinnowClient::WinnowClient(const std::shared_ptr<grpc::Channel>& channel, std::string token,
                           std::optional<TraceContext> trace)
    : token_(std::move(token)),
      trace_(std::move(trace)),
      generation_(v1::GenerationService::NewStub(channel)),
      models_(v1::ModelService::NewStub(channel)) {}

absl::StatusOr<std::unique_ptr<WinnowClient>> WinnowClient::Create(const std::string& address,
                                                                   const ClientOptions& options) {
  WINNOW_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                          MakeChannel(address, {.tls = options.tls}));
  const std::optional<TraceContext> trace = TraceContext::Parse(options.traceparent);
  if (!trace && !options.traceparent.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("traceparent: expected 00-<32 digits>-<16 digits>-<2 digits>, got '",
                     options.traceparent, "'"));
  }
  return std::unique_ptr<WinnowClient>(new WinnowClient(channel, options.token, trace));
}

absl::StatusOr<GenerateResult> WinnowClient::Generate(const v1::GenerateRequest& request,
                                                      absl::Duration timeout,
                                                      const GenerateCallbacks& callbacks,
                                                      const StopFlag* stop) {
  WINNOW_RETURN_IF_ERROR(CheckRequest(request));
  RealClock clock;
  grpc::ClientContext context;
  ShowToken(context, token_);
  if (trace_) SendTrace(context, *trace_);
  SetDeadline(context, Deadline::After(clock, timeout), clock);
  const CancelWatch watch(context, stop);
  const absl::Time begin = clock.Now();
  const auto seconds = [&] { return absl::ToDoubleSeconds(clock.Now() - begin); };
  const auto stream = generation_->Generate(&context, request);
  GenerateResult result;
  bool finished = false;
  absl::Status bad;
  v1::GenerateResponse event;
  while (stream->Read(&event)) {
    if (event.has_started()) {
      result.request_id = event.started().request_id();
      result.prompt_tokens = event.started().prompt_tokens();
      if (callbacks.started) callbacks.started(result.prompt_tokens);
    } else if (event.has_token()) {
      if (result.token_ids.empty()) result.ttft_s = seconds();
      result.token_ids.push_back(event.token().id());
      result.text += event.token().text();
      if (callbacks.token)
        callbacks.token(event.token().index(), event.token().id(), event.token().text());
    } else if (event.has_finished()) {
      finished = true;
      bad = TakeFinished(event.finished(), result);
      if (callbacks.token && !event.finished().text().empty())
        callbacks.token(-1, -1, event.finished().text());
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return FromGrpcStatus(status, context);
  WINNOW_RETURN_IF_ERROR(bad);
  result.trace_id = TraceReturned(context);
  if (!finished) return absl::InternalError("the stream ended without its last event");
  result.total_s = seconds();
  return result;
}

absl::StatusOr<std::vector<v1::Model>> WinnowClient::ListModels(absl::Duration timeout) {
  RealClock clock;
  grpc::ClientContext context;
  ShowToken(context, token_);
  SetDeadline(context, Deadline::After(clock, timeout), clock);
  v1::ListModelsResponse response;
  const grpc::Status status = models_->ListModels(&context, {}, &response);
  if (!status.ok()) return FromGrpcStatus(status, context);
  return std::vector<v1::Model>(response.models().begin(), response.models().end());
}

}  // namespace winnow
