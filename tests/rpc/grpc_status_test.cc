#include "rpc/grpc_status.h"

#include <gtest/gtest.h>

namespace winnow {
namespace {

TEST(GrpcStatusTest, EveryCodeAndItsTextGoBothWays) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "what went wrong");
    const grpc::Status wire = ToGrpcStatus(status);
    EXPECT_EQ(static_cast<int>(wire.error_code()), code);
    EXPECT_EQ(wire.error_message(), "what went wrong");
    EXPECT_EQ(FromGrpcStatus(wire), status);
  }
}

TEST(GrpcStatusTest, OkStaysOk) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpcStatus(grpc::Status::OK).ok());
}

TEST(GrpcStatusTest, UnknownCodesBecomeUnknownAndNeverOk) {
  const grpc::Status strange(static_cast<grpc::StatusCode>(30), "from the future");
  EXPECT_EQ(FromGrpcStatus(strange), absl::UnknownError("from the future"));
  EXPECT_EQ(ToGrpcStatus(absl::Status(static_cast<absl::StatusCode>(77), "")).error_code(),
            grpc::StatusCode::UNKNOWN);
}

TEST(GrpcStatusTest, CutsLongTextsBetweenCharacters) {
  std::string text(4095, 'a');
  text += "\xC3\xA9";  // é would end at byte 4097
  EXPECT_EQ(ToGrpcStatus(absl::InternalError(text)).error_message(), std::string(4095, 'a'));
  EXPECT_EQ(ToGrpcStatus(absl::InternalError(std::string(4096, 'b'))).error_message().size(),
            4096u);
}

}  // namespace
}  // namespace winnow
