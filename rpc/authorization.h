#pragma once

#include <string>

#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"

namespace winnow {

// The "authorization" header of a call; empty when there is none.
inline std::string AuthorizationOf(const grpc::ServerContextBase& context) {
  const auto header = context.client_metadata().find("authorization");
  if (header == context.client_metadata().end()) return "";
  return {header->second.data(), header->second.size()};
}

// Shows a bearer token (RFC 6750); none when it is empty.
inline void ShowToken(grpc::ClientContext& context, const std::string& token) {
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
}

}  // namespace winnow
