#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"
#include "transfer/reservation.h"

namespace winnow {

inline constexpr absl::Duration kTtl = absl::Seconds(20);

// A table with a prompt to receive.
struct ReservationFixture {
  explicit ReservationFixture(int room = 1000, size_t max_ended = 4096,
                              PeerQuota::Limits quota = {})
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

}  // namespace winnow
