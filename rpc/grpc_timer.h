#pragma once

#include <functional>

#include "common/timer.h"

namespace winnow {

// A Timer on gRPC's own threads. Has no state: callbacks may run after its end.
class GrpcTimer final : public Timer {
 public:
  void After(absl::Duration delay, std::function<void()> callback) override;
};

}  // namespace winnow
