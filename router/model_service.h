#pragma once

#include <optional>

#include "router/client_tokens.h"
#include "router/worker_registry.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {

// Tells clients what is served.
class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `chat_window_offset`: of chat prompts, in place of the profile's. `tokens` null: whoever comes
  // may ask. Both references must outlive the service.
  ModelService(const WorkerRegistry& registry, std::optional<int> chat_window_offset,
               const ClientTokens* tokens)
      : registry_(registry), chat_window_offset_(chat_window_offset), tokens_(tokens) {}

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;

 private:
  const WorkerRegistry& registry_;
  const std::optional<int> chat_window_offset_;
  const ClientTokens* const tokens_;
};

}  // namespace winnow
