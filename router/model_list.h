#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "router/worker_registry.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// What clients may know about the model that the router serves, from what its workers say. No gRPC.
// Thread-safe.
class ModelList {
 public:
  // `chat_window_offset`: of chat prompts, in place of the profile's. `registry` must outlive the
  // list.
  ModelList(const WorkerRegistry& registry, std::optional<int> chat_window_offset)
      : registry_(registry), chat_window_offset_(chat_window_offset) {}

  // The model, with the ready workers that serve it. UNAVAILABLE until a prefill worker has
  // answered.
  absl::StatusOr<v1::Model> Get() const;

 private:
  const WorkerRegistry& registry_;
  const std::optional<int> chat_window_offset_;
};

}  // namespace winnow
