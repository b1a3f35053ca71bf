#include "router/model_service.h"

#include "common/status_macros.h"
#include "rpc/authorization.h"
#include "rpc/grpc_status.h"

namespace winnow {
namespace {

absl::Status Answer(const FrontDoor& door, const ModelList& models,
                    const std::string& authorization, v1::ListModelsResponse& response) {
  WINNOW_RETURN_IF_ERROR(door.Authenticate(authorization).status());
  WINNOW_ASSIGN_OR_RETURN(*response.add_models(), models.Get());
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest*,
                                                   v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status status = Answer(door_, models_, AuthorizationOf(*context), *response);
  reactor->Finish(ToGrpcStatus(status, *context));
  return reactor;
}

}  // namespace winnow
