#pragma once

#include "router/worker_registry.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {

// Tells clients what is served.
class ModelService final : public v1::ModelService::CallbackService {
 public:
  explicit ModelService(const WorkerRegistry& registry) : registry_(registry) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const WorkerRegistry& registry_;
};

}  // namespace winnow
