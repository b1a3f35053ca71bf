#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace winnow {

// What a process shows and whom it trusts: PEM files, read again within a few seconds of a change.
struct TlsFiles {
  std::string certificate;  // shown to peers, with its chain; together with `key`
  std::string key;
  std::string authority;  // certificates that peers' must be signed by
  // The name that certificates of servers must carry, in place of the one that is connected to;
  // empty: that one.
  std::string server_name;

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
};

// INVALID_ARGUMENT names the file that is missing or is not PEM, or the one of two that is missing.
absl::Status CheckTlsFiles(const TlsFiles& files);

// For a server, which needs a certificate; plain text without files. `asks_for_certificate`:
// whoever connects must show one that `authority` signed (mutual TLS). The errors of CheckTlsFiles.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, bool asks_for_certificate);

// For a channel: the server's certificate must be signed by `authority` and carry the name or
// address that is connected to (MakeChannel also knows `server_name`). Plain text without files.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files);

}  // namespace winnow
