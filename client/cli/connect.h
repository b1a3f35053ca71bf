#pragma once

#include <memory>
#include <string>
#include <vector>

#include "client/cli/args.h"
#include "client/cpp/winnow_client.h"

namespace winnow {

// The options with which every command that talks to a router says which, and who is asking.
inline constexpr char kConnectHelp[] =
    R"(  --address HOST:PORT     the router (127.0.0.1:50050)
  --token-file FILE       file with the bearer token to show (or WINNOW_TOKEN in the environment)
  --tls-ca FILE           connect by TLS; PEM of the authority that signed the router's certificate
  --tls-server-name NAME  the name that the router's certificate must carry (that of --address)
  --tls-cert, --tls-key   PEM files of the certificate to show, where the router asks for one
  --traceparent TP        the W3C trace that the request belongs to (the router makes one)
)";
const std::vector<std::string>& ConnectValues();

// INVALID_ARGUMENT: no address, an unreadable or empty file.
absl::StatusOr<std::unique_ptr<WinnowClient>> Connect(const Args& args);

}  // namespace winnow
