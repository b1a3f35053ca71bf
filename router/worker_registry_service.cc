#include "router/worker_registry_service.h"

#include "rpc/grpc_status.h"
#include "rpc/peer.h"

namespace winnow {

grpc::ServerUnaryReactor* WorkerRegistryService::Register(grpc::CallbackServerContext* context,
                                                          const v1::RegisterRequest* request,
                                                          v1::RegisterResponse* response) {
  absl::StatusOr<absl::Duration> ttl = absl::PermissionDeniedError(
      "register: workers show a certificate that this router's authority signed, or come from "
      "loopback");
  if (MayActAsWorker(*context)) {
    ttl = workers_.Register(request->info(), absl::Milliseconds(request->ttl_ms()));
  }
  if (ttl.ok()) response->set_ttl_ms(absl::ToInt64Milliseconds(*ttl));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(ttl.status(), *context));
  return reactor;
}

}  // namespace winnow
