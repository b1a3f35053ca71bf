#pragma once

#include "router/registered_workers.h"
#include "winnow/v1/registry.grpc.pb.h"

namespace winnow {

// Lets workers register themselves by gRPC. Only peers that may act as workers (rpc/peer.h) can,
// since a router sends prompts to every registered worker.
class WorkerRegistryService final : public v1::WorkerRegistryService::CallbackService {
 public:
  // `workers` must outlive the service.
  explicit WorkerRegistryService(RegisteredWorkers& workers) : workers_(workers) {}

  grpc::ServerUnaryReactor* Register(grpc::CallbackServerContext* context,
                                     const v1::RegisterRequest* request,
                                     v1::RegisterResponse* response) override;

 private:
  RegisteredWorkers& workers_;
};

}  // namespace winnow
