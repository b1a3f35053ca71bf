#include "rpc/channel.h"

#include <algorithm>

#include "common/host_port.h"
#include "common/status_macros.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"
#include "rpc/bulk_arguments.h"

namespace winnow {
namespace {

constexpr int kConnectTimeoutMs = 5'000;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const ChannelOptions& options) {
  WINNOW_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  if (target.port == 0)
    return absl::InvalidArgumentError("address '" + address + "': cannot connect to port 0");
  WINNOW_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                          MakeChannelCredentials(options.tls));

  grpc::ChannelArguments args;
  if (options.own_connection) args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, options.keepalive_time_ms);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, options.keepalive_timeout_ms);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA,
              0);  // no limit: a stream may wait long for its first token
  const int first_backoff_ms = std::min(100, options.max_reconnect_backoff_ms);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, first_backoff_ms);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);  // despite its name
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, options.max_reconnect_backoff_ms);
  SetBulkArguments([&](const char* name, int value) { args.SetInt(name, value); });
  if (!options.tls.server_name.empty()) args.SetSslTargetNameOverride(options.tls.server_name);
  args.SetMaxReceiveMessageSize(options.max_message_bytes);
  args.SetMaxSendMessageSize(options.max_message_bytes);
  return grpc::CreateCustomChannel(target.ToString(), credentials, args);
}

}  // namespace winnow
