#include "rpc/peer.h"

#include "absl/strings/match.h"
#include "grpc/grpc_security_constants.h"
#include "grpcpp/security/auth_context.h"

namespace winnow {
namespace {

bool IsLoopback(const std::string& peer) {
  return absl::StartsWith(peer, "ipv4:127.") || absl::StartsWith(peer, "ipv6:[::1]:") ||
         absl::StartsWith(peer, "ipv6:%5B::1%5D:");
}

bool SpeaksTls(const grpc::AuthContext& auth) {
  const auto type = auth.FindPropertyValues(GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME);
  return !type.empty() && type[0] == GRPC_SSL_TRANSPORT_SECURITY_TYPE;
}

}  // namespace

std::string PeerCertificateName(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return "";
  const auto names = auth->GetPeerIdentity();
  return names.empty() ? "" : std::string(names[0].data(), names[0].size());
}

bool MayActAsWorker(const grpc::ServerContextBase& context) {
  const auto auth = context.auth_context();
  return MayActAsWorker(auth != nullptr && SpeaksTls(*auth),
                        auth != nullptr && auth->IsPeerAuthenticated(), context.peer());
}

bool MayActAsWorker(bool speaks_tls, bool showed_certificate, const std::string& peer) {
  return !speaks_tls || showed_certificate || IsLoopback(peer);
}

}  // namespace winnow
