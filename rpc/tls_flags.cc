#include "rpc/tls_flags.h"

#include "absl/flags/flag.h"

ABSL_FLAG(std::string, tls_cert, "",
          "PEM file with the certificate that this process shows to peers, and its chain");
ABSL_FLAG(std::string, tls_key, "", "PEM file with the key of --tls-cert");
ABSL_FLAG(std::string, tls_ca, "",
          "PEM file with the authorities that peers' certificates must be signed by");
ABSL_FLAG(std::string, tls_server_name, "",
          "the name that certificates of those we connect to must carry, in place of the name or "
          "address that is connected to; for workers that are known by number, such as pods");
ABSL_FLAG(bool, tls_client_certs, true,
          "with --tls-ca: whoever connects must show a certificate (mutual TLS)");
ABSL_FLAG(bool, allow_plaintext, false,
          "serve without TLS on addresses that others can reach, not on loopback alone");

namespace winnow {

TlsFiles TlsFilesOfFlags() {
  return {absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key), absl::GetFlag(FLAGS_tls_ca),
          absl::GetFlag(FLAGS_tls_server_name)};
}

ServerSecurity SecurityOfFlags() {
  return {.tls = TlsFilesOfFlags(),
          .asks_for_certificate = absl::GetFlag(FLAGS_tls_client_certs),
          .allows_plaintext = absl::GetFlag(FLAGS_allow_plaintext)};
}

}  // namespace winnow
