#pragma once

#include "rpc/server.h"
#include "rpc/tls.h"

namespace winnow {

// --tls-cert, --tls-key, --tls-ca and --tls-server-name of the server programs.
TlsFiles TlsFilesOfFlags();
// How the flags say that a server is to be secured: the files, --tls-client-certs and
// --allow-plaintext.
ServerSecurity SecurityOfFlags();

}  // namespace winnow
