#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "rpc/server.h"

namespace winnow {

// What the handoff is measured against: the same bytes over the same connections, and nothing more.
class BytePipe {
 public:
  virtual ~BytePipe() = default;
  // Sends `bytes` from `data`, shared among the connections, and returns once all have arrived.
  virtual void Send(const std::byte* data, int64_t bytes) = 0;
};

// Messages of a mebibyte as gRPC's ByteBuffers on one stream per connection, dropped on arrival.
std::unique_ptr<BytePipe> MakeGrpcPipe(int connections, const ServerSecurity& security);
// Plain sockets on loopback, a pair of threads for each.
std::unique_ptr<BytePipe> MakeTcpPipe(int connections);

}  // namespace winnow
