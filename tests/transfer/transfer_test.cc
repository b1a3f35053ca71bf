// The sender and the reservation table together, over a wire made of two queues.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <optional>
#include <random>
#include <thread>

#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"
#include "transfer/kv_sender.h"
#include "transfer/reservation.h"

namespace winnow {
namespace {

constexpr int64_t kRow = 4 * kElementBytes;
constexpr int64_t kCredits = 24 * kRow;
constexpr std::chrono::seconds kPatience{20};

// Messages by stream, encoded as on the wire. Counts what is unacknowledged. Thread-safe.
class QueueTransport final : public PushTransport {
 public:
  explicit QueueTransport(int num_streams) : streams_(num_streams) {}

  void Send(int stream, const KvChunk& chunk) override {
    const std::string prefix = EncodePrefix(chunk.header);
    const auto* begin = reinterpret_cast<const std::byte*>(prefix.data());
    std::vector<std::byte> message(begin, begin + prefix.size());
    message.insert(message.end(), chunk.payload, chunk.payload + chunk.header.payload_bytes);
    std::lock_guard<std::mutex> lock(mutex_);
    Stream& s = streams_[stream];
    s.messages.push_back(std::move(message));
    s.outstanding += chunk.header.payload_bytes;
    most_outstanding_ = std::max(most_outstanding_, s.outstanding);
    changed_.notify_all();
  }
  void Acknowledged(int stream, int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    streams_[stream].outstanding -= bytes;
  }
  // The stream's next message; empty once closed, or when nothing comes and `wait` is false.
  std::vector<std::byte> Next(int stream, bool wait) {
    std::unique_lock<std::mutex> lock(mutex_);
    Stream& s = streams_[stream];
    if (wait) changed_.wait_for(lock, kPatience, [&] { return closed_ || !s.messages.empty(); });
    if (s.messages.empty()) return {};
    std::vector<std::byte> message = std::move(s.messages.front());
    s.messages.pop_front();
    return message;
  }
  void Finish() override {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  void Cancel() override { Finish(); }
  // Swaps a stream's first two waiting messages, or doubles its first; false if there are too few.
  bool Swap(int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& messages = streams_[stream].messages;
    if (messages.size() < 2) return false;
    std::swap(messages[0], messages[1]);
    return true;
  }
  bool Double(int stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto& messages = streams_[stream].messages;
    if (messages.empty()) return false;
    messages.push_front(messages.front());
    return true;
  }
  int64_t most_outstanding() {
    std::lock_guard<std::mutex> lock(mutex_);
    return most_outstanding_;
  }

 private:
  struct Stream {
    std::deque<std::vector<std::byte>> messages;
    int64_t outstanding = 0;
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Stream> streams_;
  int64_t most_outstanding_ = 0;
  bool closed_ = false;
};

struct Handoff {
  Handoff(const KvPlan& plan, int tensor_parallel, int streams_per_rank)
      : prompt(plan),
        staging(prompt, tensor_parallel),
        num_streams(std::min(tensor_parallel, plan.num_kv_heads) * streams_per_rank),
        transport(num_streams),
        sender({.plan = plan,
                .ranks = staging.ranks(),
                .streams_per_rank = streams_per_rank,
                .attempt = 1,
                .credit_bytes_per_stream = kCredits,
                .max_chunk_bytes = 7 * kRow,
                .transport = &transport}),
        table(target, clock,
              {.shape = SmallShape(),
               .kv_element_bytes = kElementBytes,
               .layout_digest = "layout",
               .incarnation = 7,
               .credit_bytes_per_stream = kCredits}) {
    const auto grant = table.Reserve(
        {.identity = TestIdentity(), .plan = plan, .max_tokens = 5, .num_streams = num_streams});
    EXPECT_TRUE(grant.ok()) << grant.status();
    id = grant->reservation_id;
  }

  // Receives one message of the stream; false when there is none.
  bool Deliver(int stream, bool wait = false) {
    const std::vector<std::byte> message = transport.Next(stream, wait);
    if (message.empty()) return false;
    absl::Span<const std::byte> rest = message;
    const auto chunk = TakeChunk(rest);
    if (!chunk.ok()) {
      table.Fail(id, chunk.status());
      sender.Fail(chunk.status());
      return true;
    }
    const auto ack = table.OnChunk(id, stream, chunk->header, chunk->payload.data());
    if (!ack.ok()) {
      sender.Fail(ack.status());
      return true;
    }
    table.OnCreditsSent(id, stream, ack->credit_bytes);
    transport.Acknowledged(stream, ack->credit_bytes);
    sender.OnAck(stream, ack->acknowledged_sequence, ack->credit_bytes);
    return true;
  }

  void Finish() {
    sender.Finish([this](const absl::Status& status) {
      std::lock_guard<std::mutex> lock(mutex);
      end = status;
      transport.Finish();
    });
  }
  std::optional<absl::Status> End() {
    std::lock_guard<std::mutex> lock(mutex);
    return end;
  }

  absl::Status Commit() {
    CommitParams request{.identity = TestIdentity(),
                         .reservation_id = id,
                         .num_prompt_tokens = 40,
                         .next_position = 40,
                         .tokens = {1},
                         .streams = sender.summaries()};
    request.sampling.max_tokens = 5;
    for (int layer = 0; layer < 4; ++layer) {
      request.entries_per_layer.push_back(prompt.plan().entries(layer));
    }
    return table
        .Commit(request,
                [this](const CommittedSequence& s) {
                  activated.push_back(s);
                  return absl::OkStatus();
                })
        .status();
  }

  const PromptKv prompt;
  const FilledStaging staging;
  const int num_streams;
  FakeClock clock;
  FakeTarget target;
  QueueTransport transport;
  KvSender sender;
  std::vector<CommittedSequence> activated;
  ReservationTable table;
  std::string id;
  std::mutex mutex;
  std::optional<absl::Status> end;
};

// A layer's slots of every rank, cut at random places, in random order.
std::vector<std::tuple<int, int, int64_t, int64_t>> RandomParts(const KvPlan& plan, int ranks,
                                                                std::mt19937& random) {
  std::vector<std::tuple<int, int, int64_t, int64_t>> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      for (int64_t slot = 0; slot < plan.entries(layer);) {
        const int64_t left = plan.entries(layer) - slot;
        const int64_t count = std::uniform_int_distribution<int64_t>(1, left)(random);
        parts.emplace_back(rank, layer, slot, slot + count);
        slot += count;
      }
    }
  }
  std::shuffle(parts.begin(), parts.end(), random);
  return parts;
}

TEST(TransferTest, EveryByteArrivesWhateverTheOrderOfPartsAndMessages) {
  std::mt19937 random(42);
  for (const KvPlan& plan : {SmallPlan(), UnprunedPlan()}) {
    for (int tensor_parallel : {1, 2, 4, 8}) {
      for (int streams_per_rank : {1, 2, 3}) {
        Handoff h(plan, tensor_parallel, streams_per_rank);
        ASSERT_EQ(h.sender.num_streams(), h.num_streams);
        std::uniform_int_distribution<int> any_stream(0, h.num_streams - 1);
        for (const auto& [rank, layer, begin, end] : RandomParts(plan, tensor_parallel, random)) {
          h.sender.OnReady(rank, layer, begin, end);
          for (int i = 0; i < 2; ++i) h.Deliver(any_stream(random));
        }
        h.Finish();
        for (int stream = 0, idle = 0; idle < h.num_streams;
             stream = (stream + 1) % h.num_streams) {
          idle = h.Deliver(stream) ? 0 : idle + 1;
        }
        ASSERT_EQ(h.End(), absl::OkStatus()) << "T " << tensor_parallel;
        ASSERT_EQ(h.Commit(), absl::OkStatus()) << "T " << tensor_parallel;
        EXPECT_EQ(h.target.CountWrongSlots(h.activated.at(0).handle, h.prompt), 0);
        EXPECT_EQ(h.sender.kv_payload_bytes(), plan.payload_bytes(kElementBytes));
        EXPECT_LE(h.transport.most_outstanding(), kCredits);
        EXPECT_GT(h.transport.most_outstanding(), kCredits / 2);  // the limit was reached
      }
    }
  }
}

TEST(TransferTest, RanksAndStreamsOnThreadsOfTheirOwnLoseNothing) {
  constexpr int kRanks = 4;
  const KvPlan plan = SmallPlan();
  Handoff h(plan, kRanks, /*streams_per_rank=*/2);
  std::vector<std::thread> receivers, ranks;
  for (int stream = 0; stream < h.num_streams; ++stream) {
    receivers.emplace_back([&h, stream] {
      while (h.Deliver(stream, /*wait=*/true)) {
      }
    });
  }
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        for (int64_t slot = 0; slot < plan.entries(layer); slot += 4) {
          h.sender.OnReady(rank, layer, slot, std::min(slot + 4, plan.entries(layer)));
        }
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  h.Finish();
  for (std::thread& receiver : receivers) receiver.join();
  ASSERT_EQ(h.End(), absl::OkStatus());
  ASSERT_EQ(h.Commit(), absl::OkStatus());
  EXPECT_EQ(h.target.CountWrongSlots(h.activated.at(0).handle, h.prompt), 0);
  EXPECT_LE(h.transport.most_outstanding(), kCredits);
}

TEST(TransferTest, AnAbortBesideRunningStreamsFreesOnceAndStopsThem) {
  constexpr int kRanks = 4;
  const KvPlan plan = SmallPlan();
  for (int round = 0; round < 20; ++round) {
    Handoff h(plan, kRanks, 1);
    std::vector<std::thread> threads;
    for (int stream = 0; stream < h.num_streams; ++stream) {
      threads.emplace_back([&h, stream] {
        while (h.Deliver(stream, /*wait=*/true)) {
        }
      });
    }
    std::atomic<bool> stop{false};
    std::thread expirer([&] {
      while (!stop) h.table.Expire();
    });
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      for (int rank = 0; rank < kRanks; ++rank)
        h.sender.OnReady(rank, layer, 0, plan.entries(layer));
    }
    if (round % 2 == 0) {
      EXPECT_EQ(h.table.Abort(h.id, TestIdentity(), "cancelled"), absl::OkStatus());
    } else {
      h.clock.Advance(absl::Hours(1));
      h.table.Expire();
    }
    h.sender.Fail(absl::CancelledError("cancelled"));
    h.Finish();  // closes the wire
    for (std::thread& thread : threads) thread.join();
    stop = true;
    expirer.join();
    EXPECT_EQ(h.target.num_live(), 0);
    EXPECT_EQ(h.target.num_freed(), 1);
    EXPECT_FALSE(h.Commit().ok());
  }
}

TEST(TransferTest, AMessageOutOfOrderFailsTheAttempt) {
  Handoff h(SmallPlan(), 1, 1);
  h.sender.OnReady(0, 0, 0, 40);
  ASSERT_TRUE(h.transport.Swap(0));
  h.Deliver(0);
  h.Finish();
  EXPECT_EQ(h.End()->code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(h.target.num_live(), 0);
}

TEST(TransferTest, ARepeatedMessageIsHarmless) {
  Handoff h(SmallPlan(), 1, 1);
  for (int layer = 0; layer < 4; ++layer)
    h.sender.OnReady(0, layer, 0, h.prompt.plan().entries(layer));
  h.Finish();
  ASSERT_TRUE(h.transport.Double(0));
  while (h.Deliver(0)) {
  }
  EXPECT_EQ(h.End(), absl::OkStatus());
  EXPECT_EQ(h.table.Status(h.id)->dropped_chunks, 1);
  ASSERT_EQ(h.Commit(), absl::OkStatus());
  EXPECT_EQ(h.target.CountWrongSlots(h.activated.at(0).handle, h.prompt), 0);
}

TEST(TransferTest, APartThatIsForgottenIsRefusedAtTheCommit) {
  Handoff h(SmallPlan(), 2, 1);
  for (int layer = 0; layer < 4; ++layer)
    h.sender.OnReady(0, layer, 0, h.prompt.plan().entries(layer));
  for (int layer = 0; layer < 3; ++layer)
    h.sender.OnReady(1, layer, 0, h.prompt.plan().entries(layer));
  h.Finish();
  while (h.Deliver(0) || h.Deliver(1)) {
  }
  EXPECT_EQ(h.End(), absl::OkStatus());
  EXPECT_EQ(h.Commit().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(h.activated.empty());
}

TEST(TransferTest, ASecondSenderShipsTheSameStagingToAnotherReservation) {
  const PromptKv prompt(SmallPlan());
  std::vector<StreamSummary> first;
  for (int attempt = 0; attempt < 2; ++attempt) {
    Handoff h(SmallPlan(), 2, 1);
    for (int rank = 0; rank < 2; ++rank) {
      for (int layer = 0; layer < 4; ++layer) {
        h.sender.OnReady(rank, layer, 0, h.prompt.plan().entries(layer));
      }
    }
    h.Finish();
    while (h.Deliver(0) || h.Deliver(1)) {
    }
    ASSERT_EQ(h.Commit(), absl::OkStatus());
    EXPECT_EQ(h.target.CountWrongSlots(h.activated.at(0).handle, prompt), 0);
    if (attempt == 0) first = h.sender.summaries();
    EXPECT_EQ(h.sender.summaries(), first);
  }
}

}  // namespace
}  // namespace winnow
