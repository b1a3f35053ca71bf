#include "rpc/server.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/host_port.h"
#include "common/status_macros.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "rpc/bulk_arguments.h"

namespace winnow {
namespace {

void SetArguments(const RpcServerOptions& options, grpc::ServerBuilder& builder) {
  // Linux would let two servers share a port and split the calls among them.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Our channels ping every 10 s, with or without calls (rpc/channel.h); gRPC's default would hang
  // up on them.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  SetBulkArguments([&](const char* name, int value) { builder.AddChannelArgument(name, value); });
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(options.max_message_bytes);
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || absl::StartsWith(host, "127.");
}

}  // namespace

RpcServer::~RpcServer() { Shutdown(absl::ZeroDuration()); }

void RpcServer::SetServing(bool serving) {
  auto* health = server_->GetHealthCheckService();
  // By name: without one, gRPC sets every service that it knows, liveness too.
  for (const char* service : {"", kReadinessService}) health->SetServingStatus(service, serving);
}

void RpcServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr) return;
  const absl::Duration bounded = std::clamp(grace, absl::ZeroDuration(), absl::Hours(1));
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(bounded));
}

absl::StatusOr<std::unique_ptr<RpcServer>> StartServer(const RpcServerOptions& options) {
  WINNOW_ASSIGN_OR_RETURN(HostPort listen, ParseListenAddress(options.listen));
  const ServerSecurity& security = options.security;
  if (security.tls.empty() && !security.allows_plaintext && !IsLoopback(listen.host)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gRPC server: ", listen.ToString(),
        " can be reached from elsewhere: give it TLS (--tls-cert, --tls-key, --tls-ca) "
        "or allow plain text (--allow-plaintext)"));
  }
  WINNOW_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ServerCredentials> credentials,
                          MakeServerCredentials(security.tls, security.asks_for_certificate));
  // Both are process-wide switches that a builder reads; gRPC has no other way.
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  grpc::ServerBuilder builder;
  SetArguments(options, builder);
  int port = 0;
  builder.AddListeningPort(listen.ToString(), credentials, &port);
  for (grpc::Service* service : options.services) builder.RegisterService(service);

  auto server = std::unique_ptr<RpcServer>(new RpcServer());
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr || port <= 0) {
    return absl::UnavailableError(
        absl::StrCat("gRPC server: cannot listen on ", listen.ToString()));
  }
  listen.port = port;
  server->port_ = port;
  server->address_ = listen.ToString();
  server->server_->GetHealthCheckService()->SetServingStatus(kLivenessService, true);
  server->SetServing(false);
  return server;
}

}  // namespace winnow
