#include "transfer/reservation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/retry_hint.h"
#include "tests/transfer/reservation_fixture.h"

namespace winnow {
namespace {

using Fixture = ReservationFixture;

constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

TEST(ReservationTest, AGrantNamesItsTermsAndTakesRoomForWhatWillBeGenerated) {
  Fixture f;
  const auto grant = f.table.Reserve(f.MakeReserve());
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_EQ(grant->reservation_id.size(), 16u);
  EXPECT_EQ(grant->ttl, kTtl);
  EXPECT_EQ(grant->credit_bytes_per_stream, 1 << 20);
  EXPECT_EQ(grant->target_incarnation, 7u);
  EXPECT_EQ(f.target.last_extra_tokens(), 4);  // max_tokens − 1
  EXPECT_NE(f.Reserve(), grant->reservation_id);
  EXPECT_EQ(f.table.num_active(), 2);
}

TEST(ReservationTest, AFullWorkerSaysWhenToTryAgain) {
  Fixture f(/*room=*/1);
  const std::string id = f.Reserve();
  const absl::Status full = f.table.Reserve(f.MakeReserve()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetRetryAfter(full), absl::Milliseconds(150));
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), "test"), absl::OkStatus());
  EXPECT_TRUE(f.table.Reserve(f.MakeReserve()).ok());
}

TEST(ReservationTest, StreamsOutsideTheReservedNumberAreInvalid) {
  Fixture f;
  const std::string id = f.Reserve();
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), -1).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ReservationTest, AChunkOfAnotherStreamEndsTheReservation) {
  Fixture f;
  ReserveParams request = f.MakeReserve();
  request.num_streams = 2;
  const std::string id = f.table.Reserve(request)->reservation_id;
  const auto [header, payload] = f.prompt.Chunk(ChunkKind::kKeys, 0, 0, 0, 4, 0, /*stream=*/1);
  EXPECT_EQ(f.table.OnChunk(id, 0, header, payload.data()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(f.target.num_live(), 0);
}

TEST(ReservationTest, UnknownReservationsAreNotFoundAndTheirAbortIsFine) {
  Fixture f;
  const std::string id(16, 'x');
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 0).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(f.SendOne(id).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(f.Commit(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(f.table.Renew(id, TestIdentity()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(f.table.Status(id).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(f.table.Abort(id, TestIdentity(), ""), absl::OkStatus());
}

TEST(ReservationTest, ACommitActivatesWhatWasReceived) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  EXPECT_EQ(f.State(id), SequenceState::kReceiving);
  CommitParams request = f.MakeCommit(id);
  request.tokens = {17, 18, 19};  // forced tokens of a migration
  request.sampling.seed = 99;
  const auto bytes = f.Commit(request);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, f.prompt.plan().payload_bytes(kElementBytes));
  ASSERT_EQ(f.activated.size(), 1u);
  const CommittedSequence& sequence = f.activated[0];
  EXPECT_EQ(sequence.reservation_id, id);
  EXPECT_EQ(sequence.request_id, "request");
  EXPECT_EQ(sequence.attempt, 1u);
  EXPECT_EQ(sequence.plan, f.prompt.plan());
  EXPECT_EQ(sequence.next_position, 40);
  EXPECT_THAT(sequence.tokens, ::testing::ElementsAre(17, 18, 19));
  EXPECT_EQ(sequence.sampling, request.sampling);
  EXPECT_EQ(f.target.CountWrongSlots(sequence.handle, f.prompt), 0);
  EXPECT_EQ(f.State(id), SequenceState::kDecoding);
  EXPECT_EQ(f.table.num_active(), 1);
  EXPECT_TRUE(f.ended.empty());
}

TEST(ReservationTest, ACommitSaidAgainGivesTheSameAnswerAndActivatesOnce) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  const auto first = f.Commit(id);
  EXPECT_EQ(f.Commit(id), first);
  f.clock.Advance(kTtl * 1.5);
  f.table.Expire();
  EXPECT_EQ(f.Commit(id), first);
  f.table.Finish(id, SequenceState::kFinished);
  f.table.Expire();
  EXPECT_EQ(f.Commit(id), first);
  EXPECT_EQ(f.activated.size(), 1u);
  EXPECT_EQ(f.State(id), SequenceState::kFinished);
  EXPECT_EQ(f.table.num_active(), 0);
}

TEST(ReservationTest, ACommitThatContradictsTheReservationFreesItAndActivatesNothing) {
  const std::vector<std::function<void(CommitParams&)>> changes = {
      [](auto& c) { c.num_prompt_tokens = 41; },
      [](auto& c) { c.next_position = 41; },
      [](auto& c) { c.tokens = {}; },
      [](auto& c) {
        c.tokens = {1, 2, 3, 4, 5};
      },                                  // no room for what follows
      [](auto& c) { c.tokens = {100}; },  // not in the vocabulary
      [](auto& c) { c.tokens = {-1}; },
      [](auto& c) { c.sampling.max_tokens = 6; },
      [](auto& c) { c.entries_per_layer.pop_back(); },
      [](auto& c) { --c.entries_per_layer[2]; },
      [](auto& c) { ++c.streams[0].num_chunks; },
      [](auto& c) { c.streams[0].crc32c ^= 1; },
      [](auto& c) { c.streams.clear(); }};
  for (size_t i = 0; i < changes.size(); ++i) {
    Fixture f;
    const std::string id = f.Reserve();
    f.SendAll(id);
    CommitParams request = f.MakeCommit(id);
    changes[i](request);
    EXPECT_EQ(f.Commit(request).status().code(), kDataLoss) << "change " << i;
    EXPECT_EQ(f.Commit(id).status().code(), kDataLoss) << "change " << i;
    EXPECT_TRUE(f.activated.empty());
    EXPECT_EQ(f.target.num_live(), 0);
    EXPECT_THAT(f.ended, ::testing::ElementsAre(std::tuple(id, SequenceState::kFailed, kDataLoss)));
  }
}

TEST(ReservationTest, ACommitBeforeEverySlotCameIsDataLoss) {
  Fixture f;
  const std::string id = f.Reserve();
  ASSERT_EQ(f.SendOne(id), absl::OkStatus());
  EXPECT_EQ(f.Commit(id).status().code(), kDataLoss);
  EXPECT_EQ(f.target.num_freed(), 1);
}

TEST(ReservationTest, WhatTheSchedulerRefusesIsFreed) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  f.accept = absl::UnavailableError("shutting down");
  EXPECT_EQ(f.Commit(id).status(), f.accept);
  EXPECT_EQ(f.target.num_live(), 0);
  f.accept = absl::OkStatus();
  EXPECT_EQ(f.Commit(id).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(f.activated.empty());
}

TEST(ReservationTest, AChunkAfterTheCommitIsRefusedAndHarmless) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  ASSERT_TRUE(f.Commit(id).ok());
  EXPECT_EQ(f.SendOne(id).code(), kFailedPrecondition);
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 0).code(), kFailedPrecondition);
  f.table.Fail(id, absl::DataLossError("late"));
  EXPECT_EQ(f.State(id), SequenceState::kDecoding);
  EXPECT_EQ(f.target.CountWrongSlots(f.activated[0].handle, f.prompt), 0);
}

TEST(ReservationTest, TheLeaseEndsByTheClockAndIsNeverActivatedAfterwards) {
  for (bool expire_called : {false, true}) {
    Fixture f;
    const std::string id = f.Reserve();
    f.SendAll(id);
    f.clock.Advance(kTtl);
    if (expire_called) f.table.Expire();
    EXPECT_EQ(f.Commit(id).status().code(), kFailedPrecondition);
    EXPECT_EQ(f.SendOne(id).code(), kFailedPrecondition);
    EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 0).code(), kFailedPrecondition);
    EXPECT_EQ(f.table.Renew(id, TestIdentity()).status().code(), kFailedPrecondition);
    EXPECT_EQ(f.table.Abort(id, TestIdentity(), ""), absl::OkStatus());
    EXPECT_EQ(f.State(id), SequenceState::kExpired);
    EXPECT_TRUE(f.activated.empty());
    EXPECT_EQ(f.target.num_live(), 0);
    EXPECT_EQ(f.target.num_freed(), 1);
    EXPECT_THAT(f.ended, ::testing::ElementsAre(std::tuple(id, SequenceState::kExpired,
                                                           absl::StatusCode::kFailedPrecondition)));
  }
}

TEST(ReservationTest, OpeningSendingAndRenewingExtendTheLease) {
  Fixture f;
  const std::string id = f.Reserve();
  const auto almost = [&] { f.clock.Advance(kTtl - absl::Milliseconds(1)); };
  almost();
  EXPECT_EQ(f.table.OpenStream(id, TestIdentity(), 0), absl::OkStatus());
  almost();
  EXPECT_EQ(f.SendOne(id), absl::OkStatus());
  almost();
  const auto ttl = f.table.Renew(id, TestIdentity());
  ASSERT_TRUE(ttl.ok());
  EXPECT_EQ(*ttl, kTtl);
  almost();
  f.table.Expire();
  EXPECT_EQ(f.table.Status(id)->ttl, absl::Milliseconds(1));
  f.clock.Advance(absl::Milliseconds(1));
  f.table.Expire();
  EXPECT_EQ(f.target.num_live(), 0);
}

TEST(ReservationTest, ACommittedSequenceHasNoLease) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  ASSERT_TRUE(f.Commit(id).ok());
  f.clock.Advance(100 * kTtl);
  f.table.Expire();
  EXPECT_EQ(f.State(id), SequenceState::kDecoding);
  EXPECT_EQ(f.target.num_live(), 1);
}

TEST(ReservationTest, ASequenceThatEndsFreesItsMemoryAndKeepsItsAnswers) {
  for (SequenceState end :
       {SequenceState::kFinished, SequenceState::kAborted, SequenceState::kFailed}) {
    Fixture f;
    const std::string id = f.Reserve();
    f.SendAll(id);
    const auto first = f.Commit(id);
    ASSERT_TRUE(first.ok()) << first.status();
    f.table.Finish(id, end);
    f.table.Finish(id, SequenceState::kFinished);  // too late: it has ended
    EXPECT_EQ(f.State(id), end);
    EXPECT_EQ(f.target.num_freed(), 1);
    EXPECT_EQ(f.table.num_active(), 0);
    EXPECT_EQ(f.Commit(id), first);
    EXPECT_TRUE(f.table.Renew(id, TestIdentity()).ok());
    EXPECT_EQ(f.table.Abort(id, TestIdentity(), "").code(), kFailedPrecondition);
    EXPECT_EQ(f.SendOne(id).code(), kFailedPrecondition);
    EXPECT_TRUE(f.ended.empty());
  }
}

TEST(ReservationTest, OnlyOpenAndDecodingReservationsLive) {
  Fixture f;
  const auto is_live = [&](const std::string& id) {
    bool live = false;
    f.table.WhileHeld(id, [&](bool is_live) { live = is_live; });
    return live;
  };
  EXPECT_FALSE(is_live("unknown"));
  const std::string late = f.Reserve();
  EXPECT_TRUE(is_live(late));
  f.clock.Advance(kTtl);
  EXPECT_FALSE(is_live(late));
  EXPECT_EQ(f.ended.size(), 1u);  // the look itself found that the lease was over
  const std::string id = f.Reserve();
  f.SendAll(id);
  EXPECT_TRUE(is_live(id));
  ASSERT_TRUE(f.Commit(id).ok());
  EXPECT_TRUE(is_live(id));
  f.table.Finish(id, SequenceState::kFinished);
  EXPECT_FALSE(is_live(id));
}

TEST(ReservationTest, AnAbortFreesAtOnceAndMayBeSaidAgain) {
  Fixture f;
  const std::string id = f.Reserve();
  ASSERT_EQ(f.SendOne(id), absl::OkStatus());
  EXPECT_EQ(f.table.Abort(id, TestIdentity(), "cancelled"), absl::OkStatus());
  EXPECT_EQ(f.target.num_live(), 0);
  EXPECT_EQ(f.table.num_active(), 0);
  EXPECT_EQ(f.table.Abort(id, TestIdentity(), "cancelled"), absl::OkStatus());
  EXPECT_EQ(f.SendOne(id).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(f.Commit(id).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(f.State(id), SequenceState::kAborted);
  EXPECT_THAT(f.ended, ::testing::ElementsAre(
                           std::tuple(id, SequenceState::kAborted, absl::StatusCode::kAborted)));
}

TEST(ReservationTest, AfterTheCommitThePrefillWorkerCannotAbort) {
  Fixture f;
  const std::string id = f.Reserve();
  f.SendAll(id);
  ASSERT_TRUE(f.Commit(id).ok());
  EXPECT_EQ(f.table.Abort(id, TestIdentity(), "").code(), kFailedPrecondition);
  EXPECT_EQ(f.target.num_live(), 1);
}

TEST(ReservationTest, AnAbortWhileAChunkIsStoredFreesAfterwards) {
  Fixture f;
  const std::string id = f.Reserve();
  f.target.on_write = [&](const ChunkHeader&) {
    EXPECT_EQ(f.table.Abort(id, TestIdentity(), "over"), absl::OkStatus());
    EXPECT_EQ(f.State(id), SequenceState::kAborted);
    EXPECT_EQ(f.target.num_freed(), 0);  // the write goes where nobody else is
  };
  EXPECT_EQ(f.SendOne(id).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(f.target.num_freed(), 1);
  EXPECT_EQ(f.table.num_active(), 0);
}

TEST(ReservationTest, ACommitWhileAChunkIsStoredIsDataLoss) {
  Fixture f;
  const std::string id = f.Reserve();
  f.target.on_write = [&](const ChunkHeader& header) {
    if (header.sequence > 0) return;
    EXPECT_EQ(f.Commit(id).status().code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(f.target.num_freed(), 0);
  };
  EXPECT_EQ(f.SendOne(id).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(f.target.num_freed(), 1);
  EXPECT_TRUE(f.activated.empty());
}

TEST(ReservationTest, ChunksOfTwoStreamsAreStoredSideBySide) {
  Fixture f;
  ReserveParams request = f.MakeReserve();
  request.num_streams = 2;
  const auto grant = f.table.Reserve(request);
  ASSERT_TRUE(grant.ok()) << grant.status();
  auto [other, other_payload] = f.prompt.Chunk(ChunkKind::kKeys, 0, 1, 0, 4, 0);
  other.stream = 1;
  SealChunk(other, other_payload.data());
  int stored = 0;
  f.target.on_write = [&](const ChunkHeader& header) {
    ++stored;
    if (header.stream == 1) return;
    EXPECT_TRUE(f.table.OnChunk(grant->reservation_id, 1, other, other_payload.data()).ok());
  };
  EXPECT_EQ(f.SendOne(grant->reservation_id), absl::OkStatus());
  EXPECT_EQ(stored, 2);
}

TEST(ReservationTest, DamageEndsTheReservationAndIsTheAnswerFromThenOn) {
  Fixture f;
  const std::string id = f.Reserve();
  f.table.Fail(id, absl::DataLossError("checksum"));
  f.table.Fail(id, absl::InternalError("second"));
  EXPECT_EQ(f.target.num_freed(), 1);
  EXPECT_EQ(f.SendOne(id).code(), kDataLoss);
  EXPECT_EQ(f.Commit(id).status().code(), kDataLoss);
}

TEST(ReservationTest, StatusTellsWhatCame) {
  Fixture f;
  const std::string id = f.Reserve();
  ASSERT_EQ(f.SendOne(id), absl::OkStatus());
  f.sequence = 0;
  ASSERT_EQ(f.SendOne(id), absl::OkStatus());  // the same again: dropped
  const auto expect_counts = [&] {
    const auto status = f.table.Status(id);
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->received_payload_bytes, 4 * 4 * kElementBytes);
    EXPECT_EQ(status->dropped_chunks, 1);
  };
  expect_counts();
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), ""), absl::OkStatus());
  expect_counts();
}

TEST(ReservationTest, WhatEndedIsRememberedForTwoLeases) {
  Fixture f;
  const std::string id = f.Reserve();
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), ""), absl::OkStatus());
  f.clock.Advance(2 * kTtl);
  f.table.Expire();
  EXPECT_EQ(f.State(id), SequenceState::kAborted);
  f.clock.Advance(absl::Milliseconds(1));
  f.table.Expire();
  EXPECT_EQ(f.table.Status(id).status().code(), absl::StatusCode::kNotFound);
}

TEST(ReservationTest, OnlySoManyEndedOnesAreRememberedTheNewestOfThem) {
  Fixture f(/*room=*/1000, /*max_ended=*/2);
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(f.Reserve());
    ASSERT_EQ(f.table.Abort(ids.back(), TestIdentity(), ""), absl::OkStatus());
    f.clock.Advance(absl::Milliseconds(1));
  }
  const std::string open = f.Reserve();
  f.table.Expire();
  EXPECT_FALSE(f.table.Status(ids[0]).ok());
  EXPECT_FALSE(f.table.Status(ids[1]).ok());
  EXPECT_EQ(f.State(ids[2]), SequenceState::kAborted);
  EXPECT_EQ(f.State(ids[3]), SequenceState::kAborted);
  EXPECT_EQ(f.State(open), SequenceState::kReserved);
}

}  // namespace
}  // namespace winnow
