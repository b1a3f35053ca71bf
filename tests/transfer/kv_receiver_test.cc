#include "transfer/kv_receiver.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr int64_t kCredits = 1000;

struct Fixture {
  explicit Fixture(int num_streams = 1, KvPlan plan = SmallPlan())
      : prompt(plan),
        handle(*target.Reserve(plan, 0)),
        receiver({.plan = plan,
                  .element_bytes = kElementBytes,
                  .num_streams = num_streams,
                  .attempt = 1,
                  .credit_bytes_per_stream = kCredits}) {}

  absl::StatusOr<ChunkAck> Receive(ChunkKind kind, int layer, int head, int64_t begin,
                                   int64_t count) {
    const auto [header, payload] = prompt.Chunk(kind, layer, head, begin, count, sequence);
    return Receive(header, payload);
  }
  absl::StatusOr<ChunkAck> Receive(const ChunkHeader& header,
                                   const std::vector<std::byte>& payload) {
    const auto ack = receiver.OnChunk(header, payload.data());
    if (!ack.ok()) return ack;
    if (ack->is_new) target.Write(handle, header, payload.data());
    receiver.OnCreditsSent(header.stream, ack->credit_bytes);
    sequence = ack->acknowledged_sequence;
    crc = ExtendStreamCrc(crc, header.crc32c);
    return ack;
  }
  // Positions as given, in layer 1, head 0.
  absl::StatusOr<ChunkAck> ReceivePositions(int64_t begin, std::vector<uint32_t> positions) {
    const auto count = static_cast<int64_t>(positions.size());
    auto [header, payload] = prompt.Chunk(ChunkKind::kPositions, 1, 0, begin, count, sequence);
    std::memcpy(payload.data(), positions.data(), payload.size());
    SealChunk(header, payload.data());
    return Receive(header, payload);
  }
  // Everything but what `skip` says.
  void ReceiveAllBut(std::tuple<ChunkKind, int, int> skip) {
    for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
      for (int layer = 0; layer < prompt.plan().num_layers; ++layer) {
        for (int head = 0; head < RowsOf(prompt.plan(), kind, layer); ++head) {
          if (std::tuple(kind, layer, head) == skip) continue;
          const auto ack = Receive(kind, layer, head, 0, prompt.plan().entries(layer));
          ASSERT_TRUE(ack.ok()) << ack.status();
        }
      }
    }
  }
  void ReceiveAll() { ReceiveAllBut({ChunkKind::kKeys, -1, -1}); }
  std::vector<StreamSummary> summary() const { return {{sequence, crc}}; }

  const PromptKv prompt;
  FakeTarget target;
  const int64_t handle;
  KvReceiver receiver;
  uint64_t sequence = 0;
  uint32_t crc = 0;
};

absl::StatusCode Code(const absl::StatusOr<ChunkAck>& ack) { return ack.status().code(); }

TEST(KvReceiverTest, AWholePlanIsStoredAndComplete) {
  for (const KvPlan& plan : {SmallPlan(), UnprunedPlan()}) {
    Fixture f(1, plan);
    f.ReceiveAll();
    EXPECT_EQ(f.receiver.CheckComplete(f.summary()), absl::OkStatus());
    EXPECT_EQ(f.receiver.kv_payload_bytes(), plan.payload_bytes(kElementBytes));
    EXPECT_EQ(f.target.CountWrongSlots(f.handle, f.prompt), 0);
  }
}

TEST(KvReceiverTest, EveryMissingRowIsNoticed) {
  const KvPlan plan = SmallPlan();
  for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      for (int head = 0; head < RowsOf(plan, kind, layer); ++head) {
        Fixture f;
        f.ReceiveAllBut({kind, layer, head});
        EXPECT_EQ(f.receiver.CheckComplete(f.summary()).code(), absl::StatusCode::kDataLoss)
            << "kind " << static_cast<int>(kind) << " layer " << layer << " head " << head;
      }
    }
  }
}

TEST(KvReceiverTest, OneMissingSlotIsNoticedWhereverItIs) {
  for (int64_t missing : {0, 17, 39}) {
    Fixture f;
    f.ReceiveAllBut({ChunkKind::kKeys, 0, 2});
    const auto receive = [&](int64_t begin, int64_t end) {
      return begin == end || f.Receive(ChunkKind::kKeys, 0, 2, begin, end - begin).ok();
    };
    ASSERT_TRUE(receive(0, missing));
    ASSERT_TRUE(receive(missing + 1, 40));
    EXPECT_EQ(f.receiver.CheckComplete(f.summary()).code(), absl::StatusCode::kDataLoss) << missing;
    ASSERT_TRUE(f.Receive(ChunkKind::kKeys, 0, 2, missing, 1).ok());
    EXPECT_EQ(f.receiver.CheckComplete(f.summary()), absl::OkStatus()) << missing;
  }
}

TEST(KvReceiverTest, ASlotThatComesTwiceIsInvalid) {
  const std::pair<int64_t, int64_t> overlaps[] = {{10, 10}, {5, 6}, {19, 5}, {0, 40}, {12, 1}};
  for (const auto& [begin, count] : overlaps) {
    Fixture f;
    ASSERT_TRUE(f.Receive(ChunkKind::kValues, 0, 1, 10, 10).ok());
    EXPECT_EQ(Code(f.Receive(ChunkKind::kValues, 0, 1, begin, count)),
              absl::StatusCode::kInvalidArgument)
        << begin << " + " << count;
    // The same slots of another head are another thing.
    EXPECT_TRUE(f.Receive(ChunkKind::kValues, 0, 2, begin, count).ok());
  }
}

TEST(KvReceiverTest, WhatLiesOutsideThePlanIsInvalid) {
  Fixture f;
  const auto [good, payload] = f.prompt.Chunk(ChunkKind::kKeys, 1, 1, 2, 3, 0);
  const auto refused = [&](auto change) {
    ChunkHeader header = good;
    change(header);
    return Code(f.receiver.OnChunk(header, payload.data())) == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.layer = 4; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.layer = 0xFFFFFFFF; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.head = 4; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.head = 0x80000000; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.slot_begin = 10; }));  // 12 slots in all
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.slot_begin = 0xFFFFFFFE; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.slot_count = 0; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.slot_count = 2; }));  // not as many as bytes
  EXPECT_TRUE(refused([](ChunkHeader& h) { h.stream = 1; }));
  EXPECT_TRUE(refused([](ChunkHeader& h) {  // layer 0 stores all: positions are implied
    h.kind = ChunkKind::kPositions;
    h.layer = 0;
  }));
  EXPECT_TRUE(refused([](ChunkHeader& h) {  // layer 3: one row for all heads
    h.kind = ChunkKind::kPositions;
    h.layer = 3;
  }));
  EXPECT_TRUE(f.receiver.OnChunk(good, payload.data()).ok());
}

TEST(KvReceiverTest, AGapInTheSequenceIsDataLoss) {
  Fixture f;
  ASSERT_TRUE(f.Receive(ChunkKind::kKeys, 0, 0, 0, 4).ok());
  f.sequence = 2;
  EXPECT_EQ(Code(f.Receive(ChunkKind::kKeys, 0, 0, 4, 4)), absl::StatusCode::kDataLoss);
}

TEST(KvReceiverTest, RepeatedAndStaleChunksAreDroppedAndCounted) {
  Fixture f;
  const auto [header, payload] = f.prompt.Chunk(ChunkKind::kKeys, 0, 0, 0, 4, 0);
  ASSERT_TRUE(f.receiver.OnChunk(header, payload.data()).ok());
  const auto again = f.receiver.OnChunk(header, payload.data());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->acknowledged_sequence, 1u);
  EXPECT_EQ(again->credit_bytes, 0);
  for (uint32_t attempt : {0, 2}) {
    ChunkHeader stale = header;
    stale.attempt = attempt;
    stale.sequence = 1;
    stale.slot_begin = 8;
    const auto ack = f.receiver.OnChunk(stale, payload.data());
    ASSERT_TRUE(ack.ok()) << ack.status();
    EXPECT_EQ(ack->acknowledged_sequence, 1u);
  }
  EXPECT_EQ(f.receiver.dropped_chunks(), 3);
  EXPECT_EQ(f.receiver.kv_payload_bytes(), header.payload_bytes);
}

TEST(KvReceiverTest, MoreBytesThanTheCreditsThatWereSentAreRefused) {
  Fixture f;
  const auto [first, payload] = f.prompt.Chunk(ChunkKind::kKeys, 0, 0, 0, 40, 0);  // 320 bytes
  std::vector<ChunkAck> acks;
  for (uint64_t i = 0; i < 3; ++i) {
    ChunkHeader header = first;
    header.sequence = i;
    header.head = static_cast<uint32_t>(i);
    const auto ack = f.receiver.OnChunk(header, payload.data());
    ASSERT_TRUE(ack.ok()) << ack.status();
    EXPECT_EQ(ack->credit_bytes, 320);
  }
  ChunkHeader fourth = first;  // 1280 of 1000 bytes, as long as no credits have left
  fourth.sequence = 3;
  fourth.head = 3;
  EXPECT_EQ(Code(f.receiver.OnChunk(fourth, payload.data())), absl::StatusCode::kResourceExhausted);
  f.receiver.OnCreditsSent(0, 320);
  EXPECT_TRUE(f.receiver.OnChunk(fourth, payload.data()).ok());
}

TEST(KvReceiverTest, PositionsThatCannotBeAreInvalid) {
  // N = 40, C = 12, E = 37: slots 9, 10, 11 hold 37, 38, 39.
  const std::vector<uint32_t> good = {0, 3, 4, 9, 10, 20, 21, 22, 36, 37, 38, 39};
  ASSERT_TRUE(Fixture().ReceivePositions(0, good).ok());
  const auto refused = [&](std::vector<uint32_t> positions) {
    return Code(Fixture().ReceivePositions(0, std::move(positions))) ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused({0, 3, 3, 9, 10, 20, 21, 22, 36, 37, 38, 39}));  // twice
  EXPECT_TRUE(refused({0, 4, 3, 9, 10, 20, 21, 22, 36, 37, 38, 39}));  // not ascending
  EXPECT_TRUE(refused({0, 3, 4, 9, 10, 20, 21, 36, 37, 38, 39, 40}));  // beyond the prompt
  EXPECT_TRUE(
      refused({0, 3, 4, 9, 10, 20, 21, 22, 35, 36, 38, 39}));  // a row of the window missing
  EXPECT_TRUE(refused({0, 3, 4, 9, 10, 20, 21, 22, 36, 37, 38, 0xFFFFFFFF}));
}

TEST(KvReceiverTest, PositionsAscendAcrossChunksWhateverTheirOrder) {
  const auto receive = [](std::vector<std::pair<int64_t, std::vector<uint32_t>>> parts) {
    Fixture f;
    absl::StatusOr<ChunkAck> ack;
    for (const auto& [begin, positions] : parts) {
      ack = f.ReceivePositions(begin, positions);
      if (!ack.ok()) break;
    }
    return ack.status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(receive({{0, {0, 3}}, {2, {4, 9}}}), absl::StatusCode::kOk);
  EXPECT_EQ(receive({{0, {0, 3}}, {2, {3, 9}}}), kInvalid);
  EXPECT_EQ(receive({{2, {4, 9}}, {0, {0, 4}}}), kInvalid);
  EXPECT_EQ(receive({{2, {1, 9}}}), kInvalid);         // two slots before it, one position
  EXPECT_EQ(receive({{0, {5}}, {3, {7}}}), kInvalid);  // slots 1 and 2 need 6 and …
  EXPECT_EQ(receive({{3, {7}}, {0, {5}}}), kInvalid);
  EXPECT_EQ(receive({{3, {8}}, {0, {5}}}), absl::StatusCode::kOk);
  // Merged runs remember both ends.
  EXPECT_EQ(receive({{4, {10}}, {2, {5}}, {3, {8}}, {1, {5}}}), kInvalid);
  EXPECT_EQ(receive({{4, {10}}, {2, {5}}, {3, {8}}, {5, {10}}}), kInvalid);
  EXPECT_EQ(receive({{4, {10}}, {2, {5}}, {3, {8}}, {1, {4}}, {5, {11}}}), absl::StatusCode::kOk);
}

TEST(KvReceiverTest, TheCommitsSummariesMustBeWhatCame) {
  Fixture f(/*num_streams=*/1);
  f.ReceiveAll();
  auto expect_refused = [&](std::vector<StreamSummary> summaries) {
    EXPECT_EQ(f.receiver.CheckComplete(summaries).code(), absl::StatusCode::kDataLoss);
  };
  expect_refused({});
  expect_refused({{f.sequence + 1, f.crc}});
  expect_refused({{f.sequence, f.crc ^ 1}});
  expect_refused({{f.sequence, f.crc}, {}});
  EXPECT_EQ(f.receiver.CheckComplete(f.summary()), absl::OkStatus());
}

}  // namespace
}  // namespace winnow
