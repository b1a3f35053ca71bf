#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "grpcpp/server.h"
#include "rpc/tls.h"
#include "wire/message_size.h"

namespace winnow {

// What the health service (grpc.health.v1) knows besides the server as a whole, whose name is "".
// Readiness says what "" says: SERVING while requests are welcome. Liveness is SERVING for as long
// as the server runs, whatever its peers, its load or a drain do: who is not alive is restarted.
inline constexpr char kReadinessService[] = "readiness";
inline constexpr char kLivenessService[] = "liveness";

// Who may talk to a server.
struct ServerSecurity {
  TlsFiles tls;                      // none: plain text
  bool asks_for_certificate = true;  // with an authority: mutual TLS
  bool allows_plaintext = false;     // beyond loopback
};

struct RpcServerOptions {
  // "host:port"; without a host ("8000", ":8000") it binds to loopback. Port 0: any free one.
  std::string listen = "127.0.0.1:0";
  std::vector<grpc::Service*> services;  // must outlive the server
  ServerSecurity security;
  int max_message_bytes = kMaxMessageBytes;
};

// A running gRPC server. Thread-safe. The destructor shuts down at once.
class RpcServer {
 public:
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const { return port_; }
  // "host:port" with the port that was chosen.
  const std::string& address() const { return address_; }
  // What the health service says of the whole server and of its readiness.
  void SetServing(bool serving);
  // Refuses new calls, lets running ones end for `grace`, then cancels them and waits until their
  // reactors are done. Later calls have no effect.
  void Shutdown(absl::Duration grace);

 private:
  friend absl::StatusOr<std::unique_ptr<RpcServer>> StartServer(const RpcServerOptions& options);
  RpcServer() = default;

  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::string address_;
};

// Serves until Shutdown, with the health service (not ready until SetServing(true)) and reflection.
// UNAVAILABLE: the address cannot be bound (a port in use is refused, never
// shared); INVALID_ARGUMENT: not an address, bad TLS files, or plain text where others can listen.
absl::StatusOr<std::unique_ptr<RpcServer>> StartServer(const RpcServerOptions& options);

}  // namespace winnow
