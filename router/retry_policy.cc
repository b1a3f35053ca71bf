#include "router/retry_policy.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

// Deadlines travel as rounded remaining time, so they may pass at a worker slightly earlier.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(50);

absl::Status WithCode(const absl::Status& status, absl::StatusCode code) {
  absl::Status result(code, status.message());
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);  // hints
  });
  return result;
}

}  // namespace

bool MayRetry(const absl::Status& failure) {
  switch (failure.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnknown:  // gRPC's code for some broken streams
      return true;
    default:
      return false;
  }
}

bool CountsAgainstWorker(const absl::Status& failure) {
  switch (failure.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
      return true;
    default:
      return false;
  }
}

absl::Status ReadFailure(const absl::Status& ended, absl::Duration time_left) {
  if (ended.ok()) return absl::UnavailableError("the worker ended the stream too early");
  const bool own_trouble =
      (absl::IsDeadlineExceeded(ended) && time_left > kDeadlineSlack) || absl::IsCancelled(ended);
  return own_trouble ? WithCode(ended, absl::StatusCode::kUnavailable) : ended;
}

absl::Status ForClient(const absl::Status& failure) {
  switch (failure.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kInternal:
      return failure;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kFailedPrecondition:
      return WithCode(failure, absl::StatusCode::kUnavailable);
    default:
      return WithCode(failure, absl::StatusCode::kInternal);
  }
}

}  // namespace winnow
