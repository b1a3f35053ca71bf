#pragma once

#include <optional>

#include "router/worker_registry.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {

// Tells clients what is served.
class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `chat_window_offset`: of chat prompts, in place of the profile's.
  ModelService(const WorkerRegistry& registry, std::optional<int> chat_window_offset)
      : registry_(registry), chat_window_offset_(chat_window_offset) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const WorkerRegistry& registry_;
  const std::optional<int> chat_window_offset_;
};

}  // namespace winnow
