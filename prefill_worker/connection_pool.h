#pragma once

#include <grpcpp/channel.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "prefill_worker/deferred_tasks.h"
#include "rpc/tls.h"

namespace winnow {

// Connections to decode workers, each with a TCP connection of its own, kept for the next handoff.
// A connection that nobody has used for ten minutes is closed when a new one is made, so that a
// decode worker that is gone leaves nothing behind. Thread-safe.
class ConnectionPool {
 public:
  // Both must outlive it. `tasks` closes connections, because the last owner of a channel must not
  // be a gRPC callback.
  ConnectionPool(TlsFiles tls, const Clock& clock, DeferredTasks& tasks)
      : tls_(std::move(tls)), clock_(clock), tasks_(tasks) {}

  // The connection of this number to host:port `address`, made when it is first asked for.
  // INVALID_ARGUMENT as MakeChannel.
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Get(const std::string& address, int index);

 private:
  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    absl::Time last_used;
  };
  // The lock is held.
  void DropUnused(absl::Time now);

  const TlsFiles tls_;
  const Clock& clock_;
  DeferredTasks& tasks_;
  std::mutex mutex_;
  std::map<std::pair<std::string, int>, Connection> connections_;
};

}  // namespace winnow
