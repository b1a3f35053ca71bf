#include "rpc/grpc_status.h"

#include <cstdint>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/peer_failure.h"
#include "common/retry_hint.h"
#include "common/utf8.h"

namespace winnow {
namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr int kLastCode =
    static_cast<int>(grpc::StatusCode::UNAUTHENTICATED);  // 16, the same in both

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const int code = static_cast<int>(status.code());
  const bool known = code > 0 && code <= kLastCode;
  return grpc::Status(known ? static_cast<grpc::StatusCode>(code) : grpc::StatusCode::UNKNOWN,
                      CutUtf8(std::string(status.message()), kMaxTextBytes));
}

grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context) {
  if (const auto delay = GetRetryAfter(status)) {
    context.AddTrailingMetadata(kRetryAfterTrailer,
                                absl::StrCat(absl::ToInt64Milliseconds(*delay)));
  }
  if (IsPeerFailed(status)) context.AddTrailingMetadata(kPeerFailedTrailer, "1");
  return ToGrpcStatus(status);
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = static_cast<int>(status.error_code());
  const bool known = code > 0 && code <= kLastCode;
  return absl::Status(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                      status.error_message());
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  absl::Status result = FromGrpcStatus(status);
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto it = trailers.find(kRetryAfterTrailer);
  int64_t ms = 0;
  if (it != trailers.end() &&
      absl::SimpleAtoi(std::string(it->second.data(), it->second.size()), &ms) && ms >= 0) {
    SetRetryAfter(result, absl::Milliseconds(ms));
  }
  if (trailers.count(kPeerFailedTrailer) > 0) SetPeerFailed(result);
  return result;
}

}  // namespace winnow
