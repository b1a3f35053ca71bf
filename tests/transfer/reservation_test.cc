#include "transfer/reservation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/retry_hint.h"
#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr absl::Duration kTtl = absl::Seconds(20);
constexpr auto kFailedPrecondition = absl::StatusCode::kFailedPrecondition;
constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

struct Fixture {
  explicit Fixture(int room = 1000, size_t max_ended = 4096, PeerQuota::Limits quota = {})
      : target(room),
        table(target, clock,
              {.shape = SmallShape(),
               .kv_element_bytes = kElementBytes,
               .layout_digest = "layout",
               .incarnation = 7,
               .ttl = kTtl,
               .credit_bytes_per_stream = 1 << 20,
               .quota_per_peer = quota,
               .max_ended = max_ended,
               .retry_after = absl::Milliseconds(150)},
              [this](const std::string& id, SequenceState state, const absl::Status& why) {
                ended.emplace_back(id, state, why.code());
              }) {}

  ReserveParams MakeReserve() const {
    return {.identity = TestIdentity(), .plan = prompt.plan(), .max_tokens = 5, .num_streams = 1};
  }
  std::string Reserve() {
    const auto grant = table.Reserve(MakeReserve());
    EXPECT_TRUE(grant.ok()) << grant.status();
    sequence = 0;
    summary = {};
    return grant.ok() ? grant->reservation_id : "";
  }
  absl::Status Send(const std::string& id, const ChunkHeader& header,
                    const std::vector<std::byte>& payload) {
    const auto ack = table.OnChunk(id, 0, header, payload.data());
    if (!ack.ok()) return ack.status();
    table.OnCreditsSent(id, 0, ack->credit_bytes);
    summary = {++sequence, ExtendStreamCrc(summary.crc32c, header.crc32c)};
    return absl::OkStatus();
  }
  absl::Status SendOne(const std::string& id) {
    const auto [header, payload] = prompt.Chunk(ChunkKind::kKeys, 0, 0, 0, 4, sequence);
    return Send(id, header, payload);
  }
  void SendAll(const std::string& id) {
    const KvPlan& plan = prompt.plan();
    for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        for (int head = 0; head < RowsOf(plan, kind, layer); ++head) {
          const auto [header, payload] =
              prompt.Chunk(kind, layer, head, 0, plan.entries(layer), sequence);
          ASSERT_EQ(Send(id, header, payload), absl::OkStatus());
        }
      }
    }
  }
  CommitParams MakeCommit(const std::string& id) const {
    CommitParams request{.identity = TestIdentity(),
                         .reservation_id = id,
                         .num_prompt_tokens = 40,
                         .next_position = 40,
                         .tokens = {17},
                         .streams = {summary}};
    request.sampling.max_tokens = 5;
    for (int layer = 0; layer < 4; ++layer) {
      request.entries_per_layer.push_back(prompt.plan().entries(layer));
    }
    return request;
  }
  absl::StatusOr<int64_t> Commit(const CommitParams& params) {
    return table.Commit(params, [this](const CommittedSequence& committed) {
      if (accept.ok()) activated.push_back(committed);
      return accept;
    });
  }
  absl::StatusOr<int64_t> Commit(const std::string& id) { return Commit(MakeCommit(id)); }
  SequenceState State(const std::string& id) {
    const auto status = table.Status(id);
    EXPECT_TRUE(status.ok()) << status.status();
    return status->state;
  }

  const PromptKv prompt{SmallPlan()};
  FakeClock clock;
  FakeTarget target;
  std::vector<CommittedSequence> activated;
  std::vector<std::tuple<std::string, SequenceState, absl::StatusCode>> ended;
  absl::Status accept;
  uint64_t sequence = 0;
  StreamSummary summary;
  ReservationTable table;
};

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

TEST(ReservationTest, APeerAboveItsQuotaIsToldToComeBackAndOthersAreServed) {
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

TEST(ReservationTest, AQuotaOfBytesCountsThePlanAndWhatWillBeGenerated) {
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

TEST(ReservationTest, AQuotaIsFreeAgainHoweverTheReservationEnded) {
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

TEST(ReservationTest, ARefusalForWantOfRoomTakesNoQuota) {
  Fixture f(/*room=*/1, 4096, {.reservations = 2});
  const std::string id = f.Reserve();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(f.table.Reserve(f.MakeReserve()).ok());
  ASSERT_EQ(f.table.Abort(id, TestIdentity(), "test"), absl::OkStatus());
  EXPECT_TRUE(f.table.Reserve(f.MakeReserve()).ok());
}

TEST(ReservationTest, TheNewestWireVersionThatBothSpeakIsAgreed) {
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

TEST(ReservationTest, ReserveRefusesAnotherLayoutVersionOrProcess) {
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

TEST(ReservationTest, ReserveRefusesAPlanThatIsNotTheModels) {
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

TEST(ReservationTest, EveryCallIsForTheOneThatReserved) {
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
