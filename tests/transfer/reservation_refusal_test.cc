// Whom a reservation table refuses, and why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/retry_hint.h"
#include "tests/transfer/reservation_fixture.h"

namespace winnow {
namespace {

using Fixture = ReservationFixture;

constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;

TEST(ReservationRefusalTest, APeerAboveItsQuotaIsToldToComeBackAndOthersAreServed) {
  Fixture f(1000, 4096, {.reservations = 2});
  const std::string id = f.Reserve();
  f.Reserve();
  const absl::Status full = f.table.Reserve(f.MakeReserve()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetRetryAfter(full), absl::Milliseconds(150));
  ReserveParams other = f.MakeReserve();
  other.identity.source_incarnation += 1;
  EXPECT_TRUE(f.table.Reserve(other).ok());  // another process
  other = f.MakeReserve();
  other.peer = "prefill-b.example";
  EXPECT_TRUE(f.table.Reserve(other).ok());  // another certificate
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), "test"), absl::OkStatus());
  EXPECT_TRUE(f.table.Reserve(f.MakeReserve()).ok());
}

TEST(ReservationRefusalTest, AQuotaOfBytesCountsThePlanAndWhatWillBeGenerated) {
  const Fixture unlimited;
  const KvPlan plan = unlimited.prompt.plan();
  const int64_t token_bytes =
      int64_t{plan.num_layers} * plan.num_kv_heads * 2 * plan.head_dim * kElementBytes;
  const int64_t bytes = plan.payload_bytes(kElementBytes) + 4 * token_bytes;  // max_tokens 5
  Fixture enough(1000, 4096, {.bytes = bytes});
  EXPECT_TRUE(enough.table.Reserve(enough.MakeReserve()).ok());
  Fixture too_little(1000, 4096, {.bytes = bytes - 1});
  EXPECT_EQ(too_little.table.Reserve(too_little.MakeReserve()).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(too_little.table.num_active(), 0);
}

TEST(ReservationRefusalTest, AQuotaIsFreeAgainHoweverTheReservationEnded) {
  Fixture f(1000, 4096, {.reservations = 1});
  const auto is_full = [&] { return !f.table.Reserve(f.MakeReserve()).ok(); };
  std::string id = f.Reserve();
  ASSERT_TRUE(is_full());
  f.table.Fail(id, absl::DataLossError("a checksum"));
  id = f.Reserve();
  ASSERT_TRUE(is_full());
  f.clock.Advance(kTtl);  // its lease ends
  f.table.Expire();
  id = f.Reserve();
  f.SendAll(id);
  ASSERT_TRUE(f.Commit(id).ok());
  EXPECT_TRUE(is_full());  // it decodes: the memory is still held
  f.table.Finish(id, SequenceState::kFinished);
  EXPECT_NE(f.Reserve(), "");
}

TEST(ReservationRefusalTest, ARefusalForWantOfRoomTakesNoQuota) {
  Fixture f(/*room=*/1, 4096, {.reservations = 2});
  const std::string id = f.Reserve();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(f.table.Reserve(f.MakeReserve()).ok());
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), "test"), absl::OkStatus());
  EXPECT_TRUE(f.table.Reserve(f.MakeReserve()).ok());
}

TEST(ReservationRefusalTest, TheNewestWireVersionThatBothSpeakIsAgreed) {
  Fixture f;
  ReserveParams request = f.MakeReserve();
  request.identity.wire_version = kOldestWireVersion;
  const auto agreed = [&](uint32_t newest) {
    request.newest_wire_version = newest;
    const auto grant = f.table.Reserve(request);
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant->wire_version;
  };
  EXPECT_EQ(agreed(0), kOldestWireVersion);  // of a worker that knows no newer one
  EXPECT_EQ(agreed(kWireVersion), kWireVersion);
  EXPECT_EQ(agreed(kWireVersion + 1), kWireVersion);
}

TEST(ReservationRefusalTest, ReserveRefusesAnotherLayoutVersionOrProcess) {
  Fixture f;
  const auto code = [&](auto change) {
    ReserveParams request = f.MakeReserve();
    change(request.identity);
    return f.table.Reserve(request).status().code();
  };
  EXPECT_EQ(code([](auto& i) { i.layout_digest = "other"; }), kFailedPrecondition);
  EXPECT_EQ(code([](auto& i) { i.wire_version = 99; }), kFailedPrecondition);
  EXPECT_EQ(code([](auto& i) { i.target_incarnation = 6; }), kFailedPrecondition);
  EXPECT_EQ(code([](auto& i) { i.target_incarnation = 0; }), absl::StatusCode::kOk);  // any
}

TEST(ReservationRefusalTest, ReserveRefusesAPlanThatIsNotTheModels) {
  Fixture f;
  const auto code = [&](auto change) {
    ReserveParams request = f.MakeReserve();
    change(request);
    return f.table.Reserve(request).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code([](auto& r) { r.plan.num_layers = 5; }), kInvalid);
  EXPECT_EQ(code([](auto& r) { r.plan.num_kv_heads = 2; }), kInvalid);
  EXPECT_EQ(code([](auto& r) { r.plan.head_dim = 8; }), kInvalid);
  EXPECT_EQ(code([](auto& r) { r.max_tokens = 0; }), kInvalid);
  EXPECT_EQ(code([](auto& r) { r.max_tokens = 26; }), kInvalid);  // 40 + 26 − 1 > 64
  EXPECT_EQ(code([](auto& r) { r.max_tokens = 25; }), absl::StatusCode::kOk);
  EXPECT_EQ(code([](auto& r) { r.num_streams = 0; }), kInvalid);
  EXPECT_EQ(code([](auto& r) { r.num_streams = 65; }), kInvalid);
  EXPECT_EQ(f.target.num_live(), 1);
}

TEST(ReservationRefusalTest, EveryCallIsForTheOneThatReserved) {
  Fixture f;
  const std::string id = f.Reserve();
  const std::vector<std::function<void(TransferIdentity&)>> strangers = {
      [](auto& i) { i.source_incarnation = 6; },  [](auto& i) { i.target_incarnation = 8; },
      [](auto& i) { i.request_id = "another"; },  [](auto& i) { i.attempt = 2; },
      [](auto& i) { i.layout_digest = "other"; }, [](auto& i) { i.wire_version = 1; }};
  for (const auto& change : strangers) {
    TransferIdentity stranger = TestIdentity();
    change(stranger);
    EXPECT_EQ(f.table.OpenStream(id, stranger, 0).code(), kFailedPrecondition);
    EXPECT_EQ(f.table.Renew(id, stranger).status().code(), kFailedPrecondition);
    EXPECT_EQ(f.table.Abort(id, stranger, "").code(), kFailedPrecondition);
    CommitParams commit = f.MakeCommit(id);
    commit.identity = stranger;
    EXPECT_EQ(f.Commit(commit).status().code(), kFailedPrecondition);
  }
  EXPECT_EQ(f.State(id), SequenceState::kReserved);
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 0), absl::OkStatus());
}

}  // namespace
}  // namespace winnow
