#include "prefill_worker/grpc_kv_handoff.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

// How the handoffs themselves go is in tests/decode_worker/kv_transfer_test.cc.

TEST(GrpcKvHandoffsTest, ForgetsConnectionsThatNobodyUses) {
  FakeClock clock;
  GrpcKvHandoffs handoffs({.clock = &clock});
  absl::StatusOr<std::shared_ptr<grpc::Channel>> held = handoffs.Channel("127.0.0.1:1", 0);
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:1", 1).ok());
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:2", 0).ok());
  clock.Advance(absl::Minutes(6));
  EXPECT_EQ(*handoffs.Channel("127.0.0.1:1", 0), *held);
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:2", 0).ok());
  clock.Advance(absl::Minutes(6));
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:3", 0).ok());
  EXPECT_EQ(handoffs.num_connections(), 3u);  // the second one of 127.0.0.1:1 is gone
  clock.Advance(absl::Minutes(11));
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:4", 0).ok());
  EXPECT_EQ(handoffs.num_connections(), 2u);  // the one in use and the new one
  held = absl::UnavailableError("");
  clock.Advance(absl::Minutes(11));
  ASSERT_TRUE(handoffs.Channel("127.0.0.1:5", 0).ok());
  EXPECT_EQ(handoffs.num_connections(), 1u);
}

TEST(GrpcKvHandoffsTest, SaysWhichAddressIsBad) {
  FakeClock clock;
  GrpcKvHandoffs handoffs({.clock = &clock});
  const absl::Status bad = handoffs.Channel("no port", 0).status();
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), testing::HasSubstr("no port"));
  EXPECT_EQ(handoffs.num_connections(), 0u);
}

}  // namespace
}  // namespace winnow
