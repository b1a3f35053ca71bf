#pragma once

#include <string>

#include "grpcpp/server_context.h"

namespace winnow {

// The name in the certificate that the caller showed (the first alternative name, else the common
// name); empty when it showed none, or none that was checked.
std::string PeerCertificateName(const grpc::ServerContextBase& context);

// Whether the caller may act as a worker: it showed a certificate, comes from loopback, or speaks
// plain text, which beyond loopback is served only when --allow-plaintext trusts the network.
bool MayActAsWorker(const grpc::ServerContextBase& context);
// The rule itself. `peer` as gRPC writes it, such as "ipv4:127.0.0.1:4711".
bool MayActAsWorker(bool speaks_tls, bool showed_certificate, const std::string& peer);

}  // namespace winnow
