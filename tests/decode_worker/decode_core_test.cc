#include "decode_worker/decode_core.h"

#include <array>
#include <atomic>
#include <thread>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/decode_worker/fake_decode.h"
#include "tests/testing/fake_clock.h"
#include "tests/transfer/transfer_fixture.h"

namespace winnow {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr absl::Duration kTtl = absl::Seconds(20);
constexpr int kMaxTokens = 5;

class EventLog final : public DecodeEvents {
 public:
  void OnKvWritten(int64_t bytes) override { kv_bytes += bytes; }
  void OnDamagedKv() override { ++damaged; }
  void OnReservationEnded(SequenceState state, const absl::Status& why) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ended_.emplace_back(state, why.code());
  }
  std::vector<std::tuple<SequenceState, absl::StatusCode>> ended() {
    std::lock_guard<std::mutex> lock(mutex_);
    return ended_;
  }

  std::atomic<int64_t> kv_bytes{0};
  std::atomic<int> damaged{0};

 private:
  std::mutex mutex_;
  std::vector<std::tuple<SequenceState, absl::StatusCode>> ended_;
};

// A core with the memory, the engine and the clock of a test, and the calls of its peers.
class DecodeCoreTest : public ::testing::Test {
 protected:
  DecodeCoreTest() {
    auto memory = std::make_unique<FakeTarget>();
    target_ = memory.get();
    core_ = std::make_unique<DecodeCore>(
        std::make_unique<LoggedTarget>(std::move(memory), freed_), engine_, clock_, events_,
        DecodeCore::Options{.reservations = {.shape = SmallShape(),
                                             .kv_element_bytes = kElementBytes,
                                             .layout_digest = "layout",
                                             .incarnation = 7,
                                             .ttl = kTtl,
                                             .credit_bytes_per_stream = 1 << 20}});
  }
  ~DecodeCoreTest() override { engine_.Run(); }

  std::string Reserve() {
    const auto grant = core_->Reserve(
        {.identity = TestIdentity(), .plan = prompt_.plan(), .max_tokens = kMaxTokens});
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant.ok() ? grant->reservation_id : "";
  }
  // Sends the prompt's KV until something refuses it.
  absl::StatusOr<StreamSummary> Send(const std::string& id) {
    const KvPlan& plan = prompt_.plan();
    StreamSummary sent;
    for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        for (int head = 0; head < RowsOf(plan, kind, layer); ++head) {
          const auto [header, payload] =
              prompt_.Chunk(kind, layer, head, 0, plan.entries(layer), sent.num_chunks);
          const auto ack = core_->OnChunk(id, 0, header, payload.data());
          if (!ack.ok()) return ack.status();
          sent = {sent.num_chunks + 1, ExtendStreamCrc(sent.crc32c, header.crc32c)};
        }
      }
    }
    return sent;
  }
  CommitParams MakeCommit(const std::string& id, const StreamSummary& sent) const {
    CommitParams params{.identity = TestIdentity(),
                        .reservation_id = id,
                        .num_prompt_tokens = 40,
                        .next_position = 40,
                        .tokens = {17},
                        .sampling = {.max_tokens = kMaxTokens},
                        .streams = {sent}};
    for (int layer = 0; layer < prompt_.plan().num_layers; ++layer) {
      params.entries_per_layer.push_back(prompt_.plan().entries(layer));
    }
    return params;
  }
  absl::Status SendAndCommit(const std::string& id) {
    const auto sent = Send(id);
    return sent.ok() ? core_->Commit(MakeCommit(id, *sent)).status() : sent.status();
  }
  int64_t Subscribe(const std::string& id, TokenLog& log, int32_t from_index = 1) {
    return core_->Subscribe({.reservation_id = id,
                             .request_id = TestIdentity().request_id,
                             .attempt = TestIdentity().attempt,
                             .from_index = from_index},
                            log.subscriber());
  }
  SequenceState State(const std::string& id) {
    const auto status = core_->Status(id);
    EXPECT_TRUE(status.ok()) << status.status();
    return status->state;
  }

  const PromptKv prompt_{SmallPlan()};
  FakeClock clock_;
  EventLog events_;
  FakeDecodeEngine engine_{SmallShape()};
  ReleaseLog freed_;
  FakeTarget* target_ = nullptr;  // the core's
  std::unique_ptr<DecodeCore> core_;
};

TEST_F(DecodeCoreTest, ASequenceGoesFromItsReservationToItsLastToken) {
  engine_.Hold();
  const std::string id = Reserve();
  EXPECT_EQ(State(id), SequenceState::kReserved);
  TokenLog log;
  Subscribe(id, log);
  const auto sent = Send(id);
  ASSERT_TRUE(sent.ok()) << sent.status();
  EXPECT_EQ(State(id), SequenceState::kReceiving);
  EXPECT_EQ(core_->load().sequences, 0);
  ASSERT_TRUE(core_->Commit(MakeCommit(id, *sent)).ok());
  EXPECT_EQ(State(id), SequenceState::kDecoding);
  EXPECT_EQ(core_->load().sequences, 1);
  EXPECT_EQ(core_->load().tokens, 40 + kMaxTokens);
  EXPECT_EQ(core_->num_active(), 1);
  engine_.Run();
  EXPECT_THAT(log.Wait(), ElementsAre("1:10031", "2:10032", "3:10033", "4:10034 last", "end OK"));
  freed_.Wait(1);
  EXPECT_EQ(State(id), SequenceState::kFinished);
  EXPECT_EQ(core_->num_active(), 0);
  EXPECT_EQ(events_.kv_bytes, prompt_.plan().payload_bytes(kElementBytes));
  EXPECT_THAT(events_.ended(), IsEmpty());
}

TEST_F(DecodeCoreTest, AStreamThatWaitsGetsTheReasonWhyNoCommitComes) {
  const std::string aborted = Reserve(), failed = Reserve(), refused = Reserve(), late = Reserve();
  TokenLog logs[4];
  for (int i = 0; i < 4; ++i) Subscribe(std::array{aborted, failed, refused, late}[i], logs[i]);
  ASSERT_TRUE(core_->Abort(aborted, TestIdentity(), "a stop id").ok());
  core_->Fail(failed, absl::DataLossError("a checksum"));
  EXPECT_EQ(core_->Commit(MakeCommit(refused, {})).status().code(), absl::StatusCode::kDataLoss);
  clock_.Advance(kTtl);
  core_->Expire();
  EXPECT_THAT(logs[0].events(), ElementsAre("end ABORTED"));
  EXPECT_THAT(logs[1].events(), ElementsAre("end DATA_LOSS"));
  EXPECT_THAT(logs[2].events(), ElementsAre("end DATA_LOSS"));
  EXPECT_THAT(logs[3].events(), ElementsAre("end FAILED_PRECONDITION"));
  EXPECT_EQ(State(aborted), SequenceState::kAborted);
  EXPECT_EQ(State(failed), SequenceState::kFailed);
  EXPECT_EQ(State(refused), SequenceState::kFailed);
  EXPECT_EQ(State(late), SequenceState::kExpired);
  EXPECT_EQ(target_->num_live(), 0);
  EXPECT_EQ(events_.damaged, 1);
  EXPECT_THAT(
      events_.ended(),
      ElementsAre(std::tuple(SequenceState::kAborted, absl::StatusCode::kAborted),
                  std::tuple(SequenceState::kFailed, absl::StatusCode::kDataLoss),
                  std::tuple(SequenceState::kFailed, absl::StatusCode::kDataLoss),
                  std::tuple(SequenceState::kExpired, absl::StatusCode::kFailedPrecondition)));
}

TEST_F(DecodeCoreTest, AStreamOfAReservationThatIsUnknownOrHasEndedIsNotFoundAtOnce) {
  const std::string aborted = Reserve(), expired = Reserve();
  ASSERT_TRUE(core_->Abort(aborted, TestIdentity(), "").ok());
  clock_.Advance(kTtl);  // nobody has looked yet
  for (const std::string& id : {aborted, expired, std::string("unknown")}) {
    TokenLog log;
    Subscribe(id, log);
    EXPECT_THAT(log.events(), ElementsAre("end NOT_FOUND"));
  }
  EXPECT_EQ(target_->num_live(), 0);
}

TEST_F(DecodeCoreTest, AFinishedSequenceStillHasItsTokensAndItsCommitsAnswer) {
  const std::string id = Reserve();
  const auto sent = Send(id);
  ASSERT_TRUE(sent.ok()) << sent.status();
  const auto first = core_->Commit(MakeCommit(id, *sent));
  freed_.Wait(1);
  TokenLog log;
  Subscribe(id, log, 4);
  EXPECT_THAT(log.events(), ElementsAre("4:10034 last", "end OK"));
  EXPECT_EQ(core_->Commit(MakeCommit(id, *sent)), first);
  EXPECT_EQ(freed_.size(), 1u);
}

TEST_F(DecodeCoreTest, ACancelledSequenceIsAbortedAndItsRepeatedCommitActivatesNothing) {
  engine_.Hold();
  const std::string id = Reserve();
  const auto sent = Send(id);
  ASSERT_TRUE(sent.ok()) << sent.status();
  TokenLog log, late;
  Subscribe(id, log);
  const auto first = core_->Commit(MakeCommit(id, *sent));
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(engine_.WaitForSteps(1));
  core_->Cancel(id);
  core_->Cancel(id);
  engine_.Run();
  EXPECT_EQ(log.Wait().back(), "end CANCELLED");
  freed_.Wait(1);
  EXPECT_EQ(State(id), SequenceState::kAborted);
  EXPECT_EQ(core_->Commit(MakeCommit(id, *sent)), first);
  EXPECT_EQ(core_->load().sequences, 0);
  Subscribe(id, late);
  EXPECT_THAT(late.Wait(), ElementsAre("end NOT_FOUND"));
}

TEST_F(DecodeCoreTest, ACancelDuringACommitEndsTheSequenceBeforeItsFirstStep) {
  engine_.Hold();
  const std::string running = Reserve();
  ASSERT_TRUE(SendAndCommit(running).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));  // the scheduler is busy with it
  const std::string id = Reserve();
  TokenLog log;
  Subscribe(id, log);
  core_->Cancel(id);
  ASSERT_TRUE(SendAndCommit(id).ok());
  engine_.Run();
  EXPECT_THAT(log.Wait(), ElementsAre("end CANCELLED"));
  EXPECT_THAT(freed_.Wait(2), ElementsAre(100, 101));
  for (const auto& step : engine_.steps()) {
    for (const auto& item : step) EXPECT_EQ(item.handle, 100);
  }
}

TEST_F(DecodeCoreTest, AnEngineFailureFailsTheSequence) {
  engine_.Hold();
  const std::string id = Reserve();
  TokenLog log;
  Subscribe(id, log);
  ASSERT_TRUE(SendAndCommit(id).ok());
  engine_.FailNext(absl::UnavailableError("a rank is gone"));
  engine_.Run();
  EXPECT_THAT(log.Wait(), ElementsAre("end INTERNAL"));
  freed_.Wait(1);
  EXPECT_EQ(State(id), SequenceState::kFailed);
}

TEST_F(DecodeCoreTest, ADrainingWorkerFinishesWhatItHasAndTakesNothingNew) {
  const std::string id = Reserve();
  TokenLog log;
  Subscribe(id, log);
  core_->Drain();
  EXPECT_EQ(core_->Reserve({.identity = TestIdentity(), .plan = prompt_.plan()}).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(core_->num_active(), 1);
  ASSERT_TRUE(SendAndCommit(id).ok());
  EXPECT_EQ(log.Wait().back(), "end OK");
  freed_.Wait(1);
  EXPECT_EQ(core_->num_active(), 0);
}

TEST_F(DecodeCoreTest, TheEndOfTheCoreEndsItsStreamsAndFreesItsSequences) {
  engine_.Hold();
  const std::string open = Reserve(), decoding = Reserve();
  TokenLog waiting, running;
  Subscribe(open, waiting);
  Subscribe(decoding, running);
  ASSERT_TRUE(SendAndCommit(decoding).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  std::thread stopper([this] { core_.reset(); });
  engine_.Run();
  stopper.join();
  EXPECT_THAT(waiting.events(), ElementsAre("end UNAVAILABLE"));
  EXPECT_EQ(running.ends(), 1);
  EXPECT_THAT(freed_.Wait(1), ElementsAre(101));
}

// The subscription and the end meet in any order: the stream never waits in vain.
TEST_F(DecodeCoreTest, AStreamThatComesWhileItsReservationEndsAlwaysEnds) {
  for (int round = 0; round < 300; ++round) {
    const std::string id = Reserve();
    std::thread ender([&] {
      if (round % 3 == 0) (void)core_->Abort(id, TestIdentity(), "");
      if (round % 3 == 1) core_->Fail(id, absl::DataLossError("a checksum"));
      if (round % 3 == 2) {
        clock_.Advance(kTtl);
        core_->Expire();
      }
    });
    TokenLog log;
    Subscribe(id, log);
    ender.join();
    EXPECT_THAT(log.events(), ElementsAre(AnyOf("end NOT_FOUND", "end ABORTED", "end DATA_LOSS",
                                                "end FAILED_PRECONDITION")))
        << round;
  }
}

// The same after the commit: the last token, a cancel and the stream meet.
TEST_F(DecodeCoreTest, AStreamThatComesWhileItsSequenceEndsAlwaysEnds) {
  for (int round = 0; round < 100; ++round) {
    const std::string id = Reserve();
    ASSERT_TRUE(SendAndCommit(id).ok());
    if (round % 2 == 0) core_->Cancel(id);
    TokenLog log;
    Subscribe(id, log);
    EXPECT_THAT(log.Wait().back(), AnyOf("end NOT_FOUND", "end CANCELLED", "end OK")) << round;
  }
  freed_.Wait(100);
  EXPECT_EQ(target_->num_live(), 0);
}

TEST_F(DecodeCoreTest, CallsFromAllSidesAtOnceEndEverySequenceOnce) {
  constexpr int kThreads = 4, kEach = 40;
  std::atomic<bool> over{false};
  std::thread expirer([&] {
    while (!over) {
      clock_.Advance(absl::Milliseconds(10));  // of 20 s: some leases and orphans end
      core_->Expire();
      (void)core_->load();
    }
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const std::string id = Reserve();
        TokenLog log;
        std::thread reader([&] { Subscribe(id, log); });
        std::thread stranger([&] {
          if (i % 4 == 1) core_->Cancel(id);
          if (i % 4 == 2) (void)core_->Abort(id, TestIdentity(), "");
          if (i % 4 == 3) core_->Fail(id, absl::DataLossError("a checksum"));
        });
        const absl::Status committed = SendAndCommit(id);
        reader.join();
        stranger.join();
        // Without a commit, an abort or the lease ends what is left.
        if (!committed.ok()) (void)core_->Abort(id, TestIdentity(), "");
        log.Wait();
        EXPECT_EQ(log.ends(), 1) << committed << " in turn " << i << " of thread " << t;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  freed_.Wait(kThreads * kEach);
  over = true;
  expirer.join();
  EXPECT_EQ(freed_.size(), static_cast<size_t>(kThreads * kEach));
  EXPECT_EQ(target_->num_live(), 0);
  EXPECT_EQ(core_->num_active(), 0);
  EXPECT_EQ(core_->load().sequences, 0);
}

}  // namespace
}  // namespace winnow
