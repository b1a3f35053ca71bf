#pragma once

#include <memory>

#include "common/clock.h"
#include "common/deadline.h"
#include "grpcpp/client_context.h"
#include "rpc/grpc_deadline.h"

namespace winnow {

// A unary call under way, and what it needs to stay alive: its callback shares it.
template <typename Request, typename Response>
struct UnaryCall {
  grpc::ClientContext context;
  Request request;
  Response response;
};

template <typename Request, typename Response>
std::shared_ptr<UnaryCall<Request, Response>> MakeUnaryCall(Deadline deadline, const Clock& clock) {
  auto call = std::make_shared<UnaryCall<Request, Response>>();
  SetDeadline(call->context, deadline, clock);
  return call;
}

}  // namespace winnow
