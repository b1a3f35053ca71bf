#include "router/generation_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "rpc/authorization.h"
#include "rpc/grpc_deadline.h"
#include "rpc/queued_writer.h"
#include "rpc/trace_metadata.h"

namespace winnow {

absl::StatusOr<std::shared_ptr<Client>> GenerationService::Authenticate(
    const grpc::CallbackServerContext& context) {
  if (tokens_ == nullptr) return nullptr;
  absl::StatusOr<std::shared_ptr<Client>> client = tokens_->Authenticate(AuthorizationOf(context));
  if (!client.ok()) {
    parts_.metrics.OnRejected(Rejection::kUnauthenticated);
    return client;
  }
  if (const absl::Status begun = (*client)->Begin(); !begun.ok()) {
    parts_.metrics.OnRejected(Rejection::kClientLimit);
    return begun;
  }
  return client;
}

absl::Status GenerationService::TakePlace(int64_t bytes) {
  absl::Status refused;
  if (draining_) {
    parts_.metrics.OnRejected(Rejection::kDraining);
    refused = absl::UnavailableError("the router is draining");
  } else if (num_running_.fetch_add(1) >= options_.max_running) {
    --num_running_;
    parts_.metrics.OnRejected(Rejection::kOverload);
    refused = absl::ResourceExhaustedError(
        absl::StrCat("the router runs ", options_.max_running, " requests, as many as it may"));
  } else if (const int64_t others = running_bytes_.fetch_add(bytes);
             others + bytes > options_.max_running_bytes) {
    GivePlace(bytes);
    parts_.metrics.OnRejected(Rejection::kOverload);
    refused = absl::ResourceExhaustedError(
        absl::StrCat("the router runs requests of ", others, " bytes, with this one of ", bytes,
                     " it would have more than ", options_.max_running_bytes));
  }
  SetRetryAfter(refused, options_.retry_after);
  return refused;
}

void GenerationService::GivePlace(int64_t bytes) {
  running_bytes_ -= bytes;
  --num_running_;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  auto writer = QueuedWriter<v1::GenerateResponse>::Create(*context);
  const TraceContext trace = TraceOf(*context).Child();
  ReturnTrace(*context, trace);
  const absl::StatusOr<std::shared_ptr<Client>> client = Authenticate(*context);
  if (!client.ok()) {
    writer->Finish(client.status());
    return writer.get();
  }
  const auto bytes = static_cast<int64_t>(request->ByteSizeLong());
  if (absl::Status refused = TakePlace(bytes); !refused.ok()) {
    if (*client != nullptr) (*client)->End();
    writer->Finish(std::move(refused));
    return writer.get();
  }
  GenerationSink sink;
  sink.write = [writer](v1::GenerateResponse event) { writer->Write(std::move(event)); };
  sink.finish = [this, writer, client = *client, bytes](const absl::Status& status) {
    if (client != nullptr) client->End();
    GivePlace(bytes);  // first: once the call has ended, the service may be gone
    writer->Finish(status);
  };
  const Deadline deadline = DeadlineOf(*context, parts_.clock)
                                .Earlier(Deadline::After(parts_.clock, options_.default_timeout));
  auto generation = std::make_shared<Generation>(parts_, options_.generation, *request, deadline,
                                                 std::move(sink), *client, trace);
  writer->SetOnCancel([generation] { generation->Cancel(); });
  executor_.Add([generation] { generation->Begin(); });
  return writer.get();
}

}  // namespace winnow
