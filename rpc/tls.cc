#include "rpc/tls.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/read_file.h"
#include "common/status_macros.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace winnow {
namespace {

constexpr unsigned kRefreshSeconds = 1;

absl::Status CheckPem(const char* what, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const std::optional<std::string> text = ReadFile(path);
  if (!text) return absl::InvalidArgumentError(absl::StrCat("TLS ", what, ": cannot read ", path));
  if (absl::StrContains(*text, "-----BEGIN ")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("TLS ", what, ": expected PEM (a line -----BEGIN …-----) in ", path));
}

// gRPC looks at the files' times and reads what is new.
std::shared_ptr<grpc::experimental::CertificateProviderInterface> Watch(const TlsFiles& files) {
  using Watcher = grpc::experimental::FileWatcherCertificateProvider;
  if (files.certificate.empty()) {
    return std::make_shared<Watcher>(files.authority, kRefreshSeconds);
  }
  if (files.authority.empty()) {
    return std::make_shared<Watcher>(files.key, files.certificate, kRefreshSeconds);
  }
  return std::make_shared<Watcher>(files.key, files.certificate, files.authority, kRefreshSeconds);
}

}  // namespace

absl::Status CheckTlsFiles(const TlsFiles& files) {
  if (files.certificate.empty() != files.key.empty()) {
    return absl::InvalidArgumentError(files.key.empty()
                                          ? "TLS: a certificate is given, but no key to it"
                                          : "TLS: a key is given, but no certificate to it");
  }
  WINNOW_RETURN_IF_ERROR(CheckPem("certificate", files.certificate));
  WINNOW_RETURN_IF_ERROR(CheckPem("key", files.key));
  return CheckPem("authority", files.authority);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFiles& files, bool asks_for_certificate) {
  if (files.empty()) return grpc::InsecureServerCredentials();
  WINNOW_RETURN_IF_ERROR(CheckTlsFiles(files));
  if (files.certificate.empty()) {
    return absl::InvalidArgumentError("TLS: a server needs a certificate and its key");
  }
  grpc::experimental::TlsServerCredentialsOptions options(Watch(files));
  options.watch_identity_key_cert_pairs();
  if (!files.authority.empty()) options.watch_root_certs();
  const bool is_mutual = asks_for_certificate && !files.authority.empty();
  options.set_cert_request_type(is_mutual
                                    ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                    : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  return grpc::experimental::TlsServerCredentials(options);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFiles& files) {
  if (files.empty()) return grpc::InsecureChannelCredentials();
  WINNOW_RETURN_IF_ERROR(CheckTlsFiles(files));
  if (files.authority.empty()) {
    return absl::InvalidArgumentError(
        "TLS: whoever connects needs the authority to check peers by");
  }
  grpc::experimental::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(files));
  options.watch_root_certs();
  if (!files.certificate.empty()) options.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsCredentials(options);
}

}  // namespace winnow
