#pragma once

#include "absl/status/status.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace winnow {

// The only mapping between absl::Status and grpc::Status. Codes have the same numbers in both; the
// text is kept, cut to 4 KiB, since it travels in HTTP/2 headers.

// Trailer with the delay, in milliseconds, after which a RESOURCE_EXHAUSTED or UNAVAILABLE call may
// be tried again.
inline constexpr char kRetryAfterTrailer[] = "winnow-retry-after-ms";
// Trailer of a failure that is a peer's of who tells it (common/peer_failure.h).
inline constexpr char kPeerFailedTrailer[] = "winnow-peer-failed";

grpc::Status ToGrpcStatus(const absl::Status& status);
// Also puts what `status` carries (common/retry_hint.h, common/peer_failure.h) into the call's
// trailers. Call once, just before the call is finished.
grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context);

// A code that gRPC does not define becomes UNKNOWN.
absl::Status FromGrpcStatus(const grpc::Status& status);
// Also takes what the call's trailers carry. REQUIRES: the call has ended.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace winnow
