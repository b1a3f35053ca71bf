#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "wire/worker_info.h"

namespace winnow {

// What a worker's program has made ready by its flags.
struct WorkerProgram {
  WorkerIdentity identity;
  std::string listen;                    // host:port of the gRPC server
  std::vector<grpc::Service*> services;  // must outlive ServeWorker
  std::function<std::string()> metrics;  // the page for Prometheus
  // Called every half second; an error ends the program, since a restart is what helps.
  std::function<absl::Status()> check;
  std::function<void()> refuse_new;      // from SIGTERM on
  std::function<int64_t()> num_running;  // requests that have not ended
  absl::Duration drain_timeout;
};

// Serves gRPC and the status pages and registers, by the flags that all workers have, until SIGTERM
// or SIGINT; then drains: nothing new is taken, and what runs gets up to drain_timeout to end. OK,
// or why it could not begin or go on.
absl::Status ServeWorker(const WorkerProgram& program, const Clock& clock);

}  // namespace winnow
