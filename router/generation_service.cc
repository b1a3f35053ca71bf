#include "router/generation_service.h"

#include <utility>

#include "rpc/authorization.h"
#include "rpc/grpc_deadline.h"
#include "rpc/queued_writer.h"
#include "rpc/trace_metadata.h"

namespace winnow {

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  const auto writer = QueuedWriter<v1::GenerateResponse>::Create(*context);
  FrontDoor::Arrival arrival{.authorization = AuthorizationOf(*context),
                             .trace = FrontDoor::SpanOf(TraceparentOf(*context)),
                             .deadline = DeadlineOf(*context, clock_),
                             .bytes = static_cast<int64_t>(request->ByteSizeLong())};
  ReturnTrace(*context, arrival.trace);
  absl::StatusOr<RequestSlot> slot = door_.Admit(std::move(arrival));
  if (!slot.ok()) {
    writer->Finish(slot.status());
    return writer.get();
  }
  const std::shared_ptr<Generation> generation = door_.Start(
      *request, *std::move(slot),
      {.write = [writer](v1::GenerateResponse event) { writer->Write(std::move(event)); },
       .finish = [writer](const absl::Status& status) { writer->Finish(status); }});
  // Before the reactor is handed to gRPC, so no end of the call can have passed unseen.
  writer->SetOnCancel([generation] { generation->Cancel(); });
  return writer.get();
}

}  // namespace winnow
