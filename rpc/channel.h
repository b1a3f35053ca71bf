#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "rpc/tls.h"
#include "wire/message_size.h"

namespace winnow {

struct ChannelOptions {
  // A TCP connection of this channel alone. Otherwise channels to one address with equal options
  // share one.
  bool own_connection = false;
  // Pings on an idle or silent connection, so that a vanished peer is noticed within the sum of the
  // two.
  int keepalive_time_ms = 10'000;
  int keepalive_timeout_ms = 5'000;
  // A peer that restarts is reached again after at most this.
  int max_reconnect_backoff_ms = 1'000;
  int max_message_bytes = kMaxMessageBytes;
  TlsFiles tls;  // none: plain text
};

// A channel that connects when it is first used; HTTP proxies of the environment are ignored. An
// address that nobody serves, or somebody whose certificate is not good, shows at the first call
// (UNAVAILABLE). INVALID_ARGUMENT: not "host:port", or bad TLS files.
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const ChannelOptions& options = {});

}  // namespace winnow
