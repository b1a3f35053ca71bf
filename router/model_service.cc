#include "router/model_service.h"

#include "rpc/authorization.h"
#include "rpc/grpc_status.h"

namespace winnow {

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest*,
                                                   v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (tokens_ != nullptr) {
    if (const auto client = tokens_->Authenticate(AuthorizationOf(*context)); !client.ok()) {
      reactor->Finish(ToGrpcStatus(client.status(), *context));
      return reactor;
    }
  }
  const absl::StatusOr<v1::WorkerInfo> info = registry_.Model();
  if (!info.ok()) {
    reactor->Finish(ToGrpcStatus(info.status(), *context));
    return reactor;
  }
  v1::Model* model = response->add_models();
  model->set_id(info->model_id());
  model->set_vocab_size(info->vocab_size());
  model->set_max_context(info->max_context());
  *model->mutable_profile() = info->profile();
  model->set_chat_window_offset(chat_window_offset_.value_or(info->profile().window_offset()));
  *model->mutable_eos_token_ids() = info->eos_token_ids();
  for (const v1::WorkerInfo& worker : registry_.Workers()) *model->add_workers() = worker;
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace winnow
