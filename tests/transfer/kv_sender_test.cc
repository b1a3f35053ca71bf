#include "transfer/kv_sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>

#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;

class RecordingTransport final : public PushTransport {
 public:
  void Send(int stream, const KvChunk& chunk) override { sent[stream].push_back(chunk); }
  void Finish() override {}
  void Cancel() override {}
  std::map<int, std::vector<KvChunk>> sent;

  int64_t bytes(int stream) {
    int64_t sum = 0;
    for (const KvChunk& chunk : sent[stream]) sum += chunk.header.payload_bytes;
    return sum;
  }
};

constexpr int64_t kPlenty = 1 << 20;

struct Fixture {
  explicit Fixture(int tensor_parallel = 1, int streams_per_rank = 1, int64_t credits = kPlenty,
                   int64_t max_chunk = 1 << 20)
      : staging(prompt, tensor_parallel),
        sender({.plan = prompt.plan(),
                .ranks = staging.ranks(),
                .streams_per_rank = streams_per_rank,
                .attempt = 1,
                .credit_bytes_per_stream = credits,
                .max_chunk_bytes = max_chunk,
                .transport = &transport,
                .clock = &clock}) {}

  void Finish() {
    sender.Finish([this](const absl::Status& status) {
      ++ends;
      end = status;
    });
  }

  const PromptKv prompt{SmallPlan()};
  FilledStaging staging;
  FakeClock clock;
  RecordingTransport transport;
  KvSender sender;
  std::optional<absl::Status> end;
  int ends = 0;
};

TEST(KvSenderTest, CutsAPartIntoChunksOfOneHeadWithTheStagedBytes) {
  Fixture f(/*tensor_parallel=*/2);
  f.sender.OnReady(/*rank=*/1, /*layer=*/1, 2, 7);
  ASSERT_EQ(f.transport.sent.size(), 1u);
  const std::vector<KvChunk>& chunks = f.transport.sent[1];
  // Heads 2 and 3 of the second rank, K and V, then both rows of positions.
  ASSERT_EQ(chunks.size(), 6u);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const ChunkHeader& h = chunks[i].header;
    EXPECT_EQ(h.sequence, i);
    EXPECT_EQ(h.stream, 1u);
    EXPECT_EQ(h.head, i < 4 ? 2 + i / 2 : 2 + (i - 4));
    EXPECT_EQ(h.kind, i >= 4       ? ChunkKind::kPositions
                      : i % 2 == 0 ? ChunkKind::kKeys
                                   : ChunkKind::kValues);
    const auto expected = f.prompt.Chunk(h.kind, 1, static_cast<int>(h.head), 2, 5, i, 1);
    EXPECT_EQ(h, expected.first);
    EXPECT_EQ(0, std::memcmp(chunks[i].payload, expected.second.data(), expected.second.size()));
  }
}

TEST(KvSenderTest, PositionsThatAllHeadsShareGoOnceAndImpliedOnesNever) {
  Fixture f(/*tensor_parallel=*/4);
  for (int rank = 0; rank < 4; ++rank) {
    f.sender.OnReady(rank, /*layer=*/3, 0, 12);
    f.sender.OnReady(rank, /*layer=*/0, 0, 40);
  }
  int64_t position_bytes = 0;
  std::vector<size_t> position_chunks;
  for (int stream = 0; stream < 4; ++stream) {
    size_t count = 0;
    for (const KvChunk& c : f.transport.sent[stream]) {
      if (c.header.kind != ChunkKind::kPositions) continue;
      ++count;
      position_bytes += c.header.payload_bytes;
    }
    position_chunks.push_back(count);
  }
  EXPECT_THAT(position_chunks, ElementsAre(1, 0, 0, 0));
  EXPECT_EQ(position_bytes, 12 * 4);
  EXPECT_EQ(f.sender.kv_payload_bytes(), 2 * 4 * (12 + 40) * 4 * kElementBytes);
}

TEST(KvSenderTest, OnlyOneOfTheRanksThatShareAHeadSends) {
  Fixture f(/*tensor_parallel=*/8);
  EXPECT_EQ(f.sender.num_streams(), 4);
  for (int rank = 0; rank < 8; ++rank) f.sender.OnReady(rank, 0, 0, 40);
  EXPECT_EQ(f.sender.kv_payload_bytes(), 2 * 4 * 40 * 4 * kElementBytes);
}

TEST(KvSenderTest, ChunksStayWithinTheirLimitAndHalfTheCredits) {
  constexpr int64_t kRow = 4 * kElementBytes;
  Fixture by_limit(1, 1, kPlenty, /*max_chunk=*/5 * kRow + 1);
  by_limit.sender.OnReady(0, 0, 0, 40);
  for (const KvChunk& c : by_limit.transport.sent[0]) EXPECT_EQ(c.header.payload_bytes, 5 * kRow);
  EXPECT_EQ(by_limit.transport.sent[0].size(), 2u * 4 * 8);

  Fixture by_credits(1, 1, /*credits=*/8 * kRow);
  by_credits.sender.OnReady(0, 0, 0, 40);
  for (const KvChunk& c : by_credits.transport.sent[0]) EXPECT_EQ(c.header.payload_bytes, 4 * kRow);
  EXPECT_EQ(by_credits.transport.sent[0].size(), 2u);
}

TEST(KvSenderTest, SendsNoMoreThanTheCreditsAndGoesOnWithNewOnes) {
  constexpr int64_t kChunk = 40 * 4 * kElementBytes;  // a head of layer 0
  Fixture f(1, 1, 2 * kChunk);
  f.sender.OnReady(0, 0, 0, 40);
  EXPECT_EQ(f.transport.sent[0].size(), 2u);
  f.sender.OnAck(0, 1, kChunk - 1);  // one byte short
  EXPECT_EQ(f.transport.sent[0].size(), 2u);
  f.sender.OnAck(0, 1, 1);
  EXPECT_EQ(f.transport.sent[0].size(), 3u);
  f.sender.OnAck(0, 3, 10 * kChunk);
  EXPECT_EQ(f.transport.sent[0].size(), 8u);
}

TEST(KvSenderTest, AStalledStreamDoesNotHoldUpAnother) {
  constexpr int64_t kChunk = 40 * 4 * kElementBytes;
  Fixture f(/*tensor_parallel=*/2, 1, 2 * kChunk);
  f.sender.OnReady(0, 0, 0, 40);
  f.sender.OnReady(1, 0, 0, 40);
  f.sender.OnAck(1, 2, 2 * kChunk);
  EXPECT_EQ(f.transport.sent[0].size(), 2u);
  EXPECT_EQ(f.transport.sent[1].size(), 4u);
}

TEST(KvSenderTest, SpreadsARanksChunksOverItsStreams) {
  Fixture f(/*tensor_parallel=*/2, /*streams_per_rank=*/2);
  f.sender.OnReady(1, 0, 0, 40);
  EXPECT_EQ(f.transport.sent.count(0) + f.transport.sent.count(1), 0u);
  EXPECT_EQ(f.transport.sent[2].size(), 2u);
  EXPECT_EQ(f.transport.sent[3].size(), 2u);
}

TEST(KvSenderTest, TimeWithoutCreditsIsCounted) {
  constexpr int64_t kChunk = 40 * 4 * kElementBytes;
  Fixture f(1, 1, 2 * kChunk);
  f.clock.Advance(absl::Seconds(5));
  EXPECT_EQ(f.sender.begun(), absl::InfiniteFuture());
  f.sender.OnReady(0, 0, 0, 40);  // stalls after two chunks
  const absl::Time begun = f.clock.Now();
  f.clock.Advance(absl::Seconds(2));
  f.sender.OnAck(0, 2, 2 * kChunk);  // still stalled
  f.clock.Advance(absl::Seconds(1));
  f.sender.OnAck(0, 4, 4 * kChunk);  // all sent
  f.clock.Advance(absl::Seconds(9));
  f.sender.OnAck(0, 8, 4 * kChunk);
  EXPECT_EQ(f.sender.credit_stall(), absl::Seconds(3));
  EXPECT_EQ(f.sender.begun(), begun);
}

TEST(KvSenderTest, EndsWellOnceEveryChunkOfEveryStreamIsAcknowledged) {
  Fixture f(/*tensor_parallel=*/2);
  f.sender.OnReady(0, 0, 0, 40);
  f.sender.OnReady(1, 0, 0, 40);
  f.sender.OnAck(0, 4, 0);
  f.Finish();
  EXPECT_FALSE(f.end.has_value());
  f.sender.OnAck(1, 3, 0);
  EXPECT_FALSE(f.end.has_value());
  f.sender.OnAck(1, 4, 0);
  EXPECT_EQ(f.end, absl::OkStatus());
  f.sender.OnAck(1, 4, 0);
  f.sender.Fail(absl::UnavailableError("the stream ended"));
  EXPECT_EQ(f.ends, 1);
}

TEST(KvSenderTest, FinishAfterTheLastAcknowledgementEndsAtOnce) {
  Fixture f;
  f.sender.OnReady(0, 0, 0, 40);
  f.sender.OnAck(0, 8, 0);
  f.Finish();
  EXPECT_EQ(f.end, absl::OkStatus());
}

TEST(KvSenderTest, WhatWaitsForCreditsIsNotForgottenByFinish) {
  constexpr int64_t kChunk = 40 * 4 * kElementBytes;
  Fixture f(1, 1, 2 * kChunk);
  f.sender.OnReady(0, 0, 0, 40);
  f.Finish();
  f.sender.OnAck(0, 2, 0);  // all that was sent, but not all there is
  EXPECT_FALSE(f.end.has_value());
}

TEST(KvSenderTest, TheFirstFailureIsReportedAndStopsSending) {
  constexpr int64_t kChunk = 40 * 4 * kElementBytes;
  Fixture f(1, 1, 2 * kChunk);
  f.sender.OnReady(0, 0, 0, 40);
  f.sender.Fail(absl::UnavailableError("first"));
  f.sender.Fail(absl::InternalError("second"));
  f.sender.OnAck(0, 2, 10 * kChunk);
  f.sender.OnReady(0, 1, 0, 12);
  EXPECT_EQ(f.transport.sent[0].size(), 2u);
  f.Finish();
  EXPECT_EQ(f.end, absl::UnavailableError("first"));

  Fixture waiting;
  waiting.sender.OnReady(0, 0, 0, 40);
  waiting.Finish();
  waiting.sender.Fail(absl::CancelledError("the client left"));
  EXPECT_EQ(waiting.end, absl::CancelledError("the client left"));
}

TEST(KvSenderTest, AnAcknowledgementOfWhatWasNeverSentFailsTheAttempt) {
  Fixture f;
  f.sender.OnReady(0, 0, 0, 40);
  f.Finish();
  f.sender.OnAck(0, 9, 0);
  ASSERT_TRUE(f.end.has_value());
  EXPECT_EQ(f.end->code(), absl::StatusCode::kInternal);
}

TEST(KvSenderTest, SummariesCountTheChunksOfEachStreamAndDigestTheirChecksums) {
  Fixture f(/*tensor_parallel=*/2);
  f.sender.OnReady(0, 0, 0, 40);
  f.sender.OnReady(0, 1, 0, 12);
  uint32_t digest = 0;
  for (const KvChunk& c : f.transport.sent[0]) digest = ExtendStreamCrc(digest, c.header.crc32c);
  const StreamSummary expected{f.transport.sent[0].size(), digest};
  EXPECT_THAT(f.sender.summaries(), ElementsAre(expected, StreamSummary{}));
  EXPECT_NE(digest, 0u);
}

}  // namespace
}  // namespace winnow
