#pragma once

#include "common/clock.h"
#include "common/deadline.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"

namespace winnow {

// gRPC keeps deadlines in system time and ours are times of a Clock, so both ways go through the
// time that is left.

// The caller's deadline, or Infinite when it set none. Read once per call.
Deadline DeadlineOf(const grpc::ServerContextBase& context, const Clock& clock);
// Call before the RPC starts. An infinite deadline sets none.
void SetDeadline(grpc::ClientContext& context, Deadline deadline, const Clock& clock);

}  // namespace winnow
