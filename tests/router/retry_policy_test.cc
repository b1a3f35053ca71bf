#include "router/retry_policy.h"

#include <gtest/gtest.h>

#include <set>

#include "common/peer_failure.h"
#include "common/retry_hint.h"

namespace winnow {
namespace {

using Code = absl::StatusCode;

TEST(RetryPolicyTest, OnlyWhatAnotherAttemptMayCureIsRetried) {
  const std::set<Code> cured = {Code::kUnavailable,       Code::kResourceExhausted, Code::kDataLoss,
                                Code::kAborted,           Code::kNotFound,          Code::kUnknown,
                                Code::kFailedPrecondition};
  for (int code = 1; code <= 16; ++code) {
    const auto c = static_cast<Code>(code);
    EXPECT_EQ(MayRetry(absl::Status(c, "x")), cured.count(c) > 0) << code;
  }
}

TEST(RetryPolicyTest, AWorkersOwnDeadlineIsNotTheRequests) {
  const absl::Status late = absl::DeadlineExceededError("rank 1 did not come");
  EXPECT_EQ(ReadFailure(late, absl::Seconds(9)).code(), Code::kUnavailable);
  EXPECT_EQ(ReadFailure(late, absl::Seconds(9)).message(), late.message());
  EXPECT_EQ(ReadFailure(late, absl::Milliseconds(1)).code(), Code::kDeadlineExceeded);
  EXPECT_EQ(ReadFailure(absl::CancelledError(""), absl::Seconds(9)).code(), Code::kUnavailable);
  EXPECT_EQ(ReadFailure(absl::OkStatus(), absl::Seconds(9)).code(), Code::kUnavailable);
  EXPECT_EQ(ReadFailure(absl::InternalError("NaN"), absl::Seconds(9)).code(), Code::kInternal);
}

TEST(RetryPolicyTest, OnlyTroubleCountsAgainstAWorkerAndItIsKnownWhose) {
  const std::set<Code> trouble = {Code::kUnavailable, Code::kDataLoss, Code::kInternal,
                                  Code::kUnknown};
  for (int code = 1; code <= 16; ++code) {
    const auto c = static_cast<Code>(code);
    EXPECT_EQ(CountsAgainstWorker(absl::Status(c, "x")), trouble.count(c) > 0) << code;
  }
  absl::Status late = absl::DeadlineExceededError("the decode worker is silent");
  SetPeerFailed(late);
  EXPECT_TRUE(IsPeerFailed(ReadFailure(late, absl::Seconds(9))));
}

TEST(RetryPolicyTest, ClientsHearOnlyTheCodesOfTheirContract) {
  for (const Code code : {Code::kNotFound, Code::kAborted, Code::kFailedPrecondition}) {
    EXPECT_EQ(ForClient(absl::Status(code, "x")).code(), Code::kUnavailable);
  }
  for (const Code code : {Code::kDataLoss, Code::kUnknown, Code::kUnimplemented}) {
    EXPECT_EQ(ForClient(absl::Status(code, "x")).code(), Code::kInternal);
  }
  for (const Code code : {Code::kInvalidArgument, Code::kResourceExhausted, Code::kUnavailable,
                          Code::kPermissionDenied, Code::kDeadlineExceeded, Code::kCancelled}) {
    EXPECT_EQ(ForClient(absl::Status(code, "x")).code(), code);
  }
}

TEST(RetryPolicyTest, TheHintSurvivesARename) {
  absl::Status aborted = absl::AbortedError("x");
  SetRetryAfter(aborted, absl::Seconds(2));
  EXPECT_EQ(GetRetryAfter(ForClient(aborted)), absl::Seconds(2));
}

}  // namespace
}  // namespace winnow
