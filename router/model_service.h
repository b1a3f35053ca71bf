#pragma once

#include "router/front_door.h"
#include "router/model_list.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {

// Tells clients by gRPC what is served.
class ModelService final : public v1::ModelService::CallbackService {
 public:
  // Both must outlive the service.
  ModelService(const FrontDoor& door, const ModelList& models) : door_(door), models_(models) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const FrontDoor& door_;
  const ModelList& models_;
};

}  // namespace winnow
