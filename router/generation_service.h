#pragma once

#include "common/clock.h"
#include "router/front_door.h"
#include "winnow/v1/generation.grpc.pb.h"

namespace winnow {

// The front door's gRPC adapter: headers in, a stream of events with one write in flight out.
class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  // Both must outlive the service, and the service the server.
  GenerationService(FrontDoor& door, const Clock& clock) : door_(door), clock_(clock) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;

 private:
  FrontDoor& door_;
  const Clock& clock_;
};

}  // namespace winnow
