#include "decode_worker/decode_scheduler.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/decode_worker/fake_decode.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Item = FakeDecodeEngine::Item;

class EventLog final : public DecodeEvents {
 public:
  void OnStep(int batch, double, int tokens) override {
    std::lock_guard<std::mutex> lock(mutex_);
    batches_.push_back(batch);
    tokens_ += tokens;
  }
  void OnJoined(absl::Duration waited) override {
    std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_GE(waited, absl::ZeroDuration());
    ++joined_;
  }
  void OnSequenceEnded(const absl::Status& status) override {
    std::lock_guard<std::mutex> lock(mutex_);
    endings_.push_back(status.code());
  }
  std::vector<int> batches() {
    std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }
  int joined() {
    std::lock_guard<std::mutex> lock(mutex_);
    return joined_;
  }
  int tokens() {
    std::lock_guard<std::mutex> lock(mutex_);
    return tokens_;
  }
  std::vector<absl::StatusCode> endings() {
    std::lock_guard<std::mutex> lock(mutex_);
    return endings_;
  }

 private:
  std::mutex mutex_;
  std::vector<int> batches_;
  std::vector<absl::StatusCode> endings_;
  int tokens_ = 0, joined_ = 0;
};

// Handle h is known by the reservation "h" of request "request h"; its prompt has 10 tokens.
class DecodeSchedulerTest : public ::testing::Test {
 protected:
  explicit DecodeSchedulerTest(int max_batch = 8) : engine_(max_batch) {
    scheduler_ = std::make_unique<DecodeScheduler>(
        engine_, clock_, events_,
        [this](const std::string& id, const absl::Status&) { released_.Add(std::stoll(id)); },
        DecodeScheduler::Options{});
  }
  static std::string Id(int64_t handle) { return std::to_string(handle); }
  absl::Status Activate(int64_t handle, std::vector<int32_t> tokens, int max_tokens,
                        std::vector<int32_t> stops = {}) {
    return scheduler_->Activate(
        {.reservation_id = Id(handle),
         .request_id = "request " + Id(handle),
         .attempt = 3,
         .handle = handle,
         .next_position = 10,
         .tokens = std::move(tokens),
         .sampling = {.max_tokens = max_tokens, .stop_token_ids = std::move(stops)}});
  }
  int64_t Subscribe(int64_t handle, TokenLog& log, int32_t from_index = 1,
                    Deadline deadline = Deadline::Infinite()) {
    return scheduler_->Subscribe({.reservation_id = Id(handle),
                                  .request_id = "request " + Id(handle),
                                  .attempt = 3,
                                  .from_index = from_index,
                                  .deadline = deadline},
                                 log.subscriber());
  }

  FakeClock clock_;
  EventLog events_;
  FakeDecodeEngine engine_;
  ReleaseLog released_;
  std::unique_ptr<DecodeScheduler> scheduler_;
};

TEST_F(DecodeSchedulerTest, StreamsTokensUpToMaxTokensAndFrees) {
  TokenLog log;
  Subscribe(1, log);
  ASSERT_TRUE(Activate(1, {5}, 4).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("1:101", "2:102", "3:103 last", "end OK"));
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  EXPECT_EQ(scheduler_->num_sequences(), 0);
  EXPECT_THAT(engine_.steps(),
              ElementsAre(ElementsAre(Item{1, 10, 0, 1, 5}), ElementsAre(Item{1, 11, 1, 2, 101}),
                          ElementsAre(Item{1, 12, 2, 3, 102})));
  EXPECT_EQ(events_.tokens(), 3);
  EXPECT_EQ(events_.joined(), 1);  // once, however many steps
  EXPECT_THAT(events_.endings(), ElementsAre(absl::StatusCode::kOk));
}

TEST_F(DecodeSchedulerTest, EndsAtAStopId) {
  TokenLog log;
  Subscribe(1, log);
  ASSERT_TRUE(Activate(1, {5}, 100, {77, 102}).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("1:101", "2:102 stop last", "end OK"));
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  EXPECT_THAT(engine_.steps(), SizeIs(2));
}

TEST_F(DecodeSchedulerTest, ForcedTokensAreReplayedAndTheNextIndexFollowsThem) {
  TokenLog log;
  Subscribe(1, log, 3);
  ASSERT_TRUE(Activate(1, {5, 6, 7}, 5).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("3:103", "4:104 last", "end OK"));
  EXPECT_THAT(engine_.steps(),
              ElementsAre(ElementsAre(Item{1, 10, 0, -1, 5}), ElementsAre(Item{1, 11, 1, -1, 6}),
                          ElementsAre(Item{1, 12, 2, 3, 7}), ElementsAre(Item{1, 13, 3, 4, 103})));
  EXPECT_EQ(events_.tokens(), 2);  // replayed ones do not count
}

TEST_F(DecodeSchedulerTest, AForcedTokenThatIsAStopIdDoesNotEnd) {
  TokenLog log;
  Subscribe(1, log, 0);
  ASSERT_TRUE(Activate(1, {5, 6}, 3, {6}).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("0:5", "1:6", "2:102 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, SequencesJoinAndLeaveBetweenSteps) {
  engine_.Hold();
  TokenLog one, two;
  Subscribe(1, one);
  Subscribe(2, two);
  ASSERT_TRUE(Activate(1, {5}, 5).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  ASSERT_TRUE(Activate(2, {6}, 3).ok());  // while a step runs
  engine_.Run();
  EXPECT_THAT(one.Wait(), ElementsAre("1:101", "2:102", "3:103", "4:104 last", "end OK"));
  EXPECT_THAT(two.Wait(), ElementsAre("1:201", "2:202 last", "end OK"));
  EXPECT_THAT(released_.Wait(2), ElementsAre(1, 2));
  EXPECT_THAT(events_.batches(), ElementsAre(1, 2, 2, 1));
}

class SmallBatchTest : public DecodeSchedulerTest {
 protected:
  SmallBatchTest() : DecodeSchedulerTest(/*max_batch=*/2) {}
};

TEST_F(SmallBatchTest, MoreSequencesThanFitTakeTurns) {
  engine_.Hold();
  TokenLog logs[5];
  for (int i = 0; i < 5; ++i) Subscribe(i + 1, logs[i]);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Activate(i + 1, {5}, 6).ok());
  engine_.Run();
  for (int i = 0; i < 5; ++i) EXPECT_THAT(logs[i].Wait(), SizeIs(6)) << i;
  EXPECT_THAT(released_.Wait(5), ElementsAre(1, 2, 3, 4, 5));
  // Once all are there, nobody gets a third turn before everybody had a first.
  std::map<int64_t, int> turns;
  const auto steps = engine_.steps();
  for (size_t step = 1; step < 6; ++step) {
    EXPECT_THAT(steps[step], SizeIs(2));
    for (const Item& item : steps[step]) ++turns[item.handle];
  }
  EXPECT_THAT(turns, SizeIs(5));
  for (const auto& [handle, count] : turns) EXPECT_EQ(count, 2) << "handle " << handle;
}

TEST_F(DecodeSchedulerTest, AStreamMayComeAfterTheEndAndHearsEverything) {
  TokenLog log;
  ASSERT_TRUE(Activate(1, {5}, 4).ok());
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));  // the KV does not wait for a reader
  EXPECT_EQ(scheduler_->num_sequences(), 0);
  clock_.Advance(absl::Seconds(5));
  Subscribe(1, log);
  EXPECT_THAT(log.Wait(), ElementsAre("1:101", "2:102", "3:103 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, AStreamThatBrokeUnseenMayComeAgainAfterTheEnd) {
  TokenLog broken, again;
  Subscribe(1, broken);
  ASSERT_TRUE(Activate(1, {5}, 4).ok());
  EXPECT_THAT(broken.Wait(), SizeIs(4));  // but its client got nothing after token 1
  Subscribe(1, again, 2);
  EXPECT_THAT(again.Wait(), ElementsAre("2:102", "3:103 last", "end OK"));
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));  // once
  EXPECT_THAT(events_.endings(), ElementsAre(absl::StatusCode::kOk));
}

TEST_F(DecodeSchedulerTest, AStreamThatComesDuringAStepHearsWhatIsThere) {
  engine_.Hold();
  ASSERT_TRUE(Activate(1, {5}, 4).ok());
  engine_.Allow(2);
  ASSERT_TRUE(engine_.WaitForSteps(3));
  TokenLog log;
  Subscribe(1, log, 0);
  EXPECT_THAT(log.events(), ElementsAre("0:5", "1:101", "2:102"));
  engine_.Run();
  EXPECT_THAT(log.Wait(), ElementsAre("0:5", "1:101", "2:102", "3:103 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, AStreamThatComesAgainContinuesWhereItWants) {
  TokenLog first, again;
  engine_.Hold();
  const int64_t number = Subscribe(1, first);
  ASSERT_TRUE(Activate(1, {5}, 6).ok());
  engine_.Allow(2);
  EXPECT_THAT(first.WaitForTokens(2), ElementsAre("1:101", "2:102"));
  scheduler_->Unsubscribe(Id(1), number);
  clock_.Advance(absl::Seconds(4));
  Subscribe(1, again, 2);
  engine_.Run();
  EXPECT_THAT(again.Wait(), ElementsAre("2:102", "3:103", "4:104", "5:105 last", "end OK"));
  EXPECT_THAT(first.events(), ElementsAre("1:101", "2:102"));  // nothing after it left
}

TEST_F(DecodeSchedulerTest, ANewStreamReplacesTheOldOne) {
  TokenLog old, fresh;
  engine_.Hold();
  const int64_t old_number = Subscribe(1, old);
  ASSERT_TRUE(Activate(1, {5}, 4).ok());
  engine_.Allow(1);
  old.WaitForTokens(1);
  Subscribe(1, fresh);
  EXPECT_THAT(old.Wait(), ElementsAre("1:101", "end ABORTED"));
  scheduler_->Unsubscribe(Id(1), old_number);  // the old one's cancel comes late
  engine_.Run();
  EXPECT_THAT(fresh.Wait(), ElementsAre("1:101", "2:102", "3:103 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, ASequenceWithoutAStreamIsFreedAfterFiveSeconds) {
  TokenLog log;
  engine_.Hold();
  const int64_t number = Subscribe(1, log);
  ASSERT_TRUE(Activate(1, {5}, 500).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  clock_.Advance(absl::Seconds(60));  // with a stream, time does nothing
  engine_.Allow(1);
  ASSERT_TRUE(engine_.WaitForSteps(2));
  scheduler_->Unsubscribe(Id(1), number);
  clock_.Advance(absl::Seconds(5));
  engine_.Allow(1);
  ASSERT_TRUE(engine_.WaitForSteps(3));
  EXPECT_EQ(released_.size(), 0u);
  clock_.Advance(absl::Milliseconds(1));
  engine_.Allow(1);
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  EXPECT_THAT(engine_.steps(), SizeIs(3));
  EXPECT_THAT(events_.endings(), ElementsAre(absl::StatusCode::kCancelled));
}

TEST_F(DecodeSchedulerTest, AFinishedSequenceIsForgottenAfterFiveSeconds) {
  ASSERT_TRUE(Activate(1, {5}, 2).ok());
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  TokenLog log;
  Subscribe(1, log);
  EXPECT_THAT(log.Wait(), ElementsAre("1:101 last", "end OK"));
  clock_.Advance(absl::Seconds(6));
  // The scheduler looks at the clock before each step, and surely before the second step of this.
  ASSERT_TRUE(Activate(2, {5}, 3).ok());
  EXPECT_THAT(released_.Wait(2), ElementsAre(1, 2));
  TokenLog late;
  scheduler_->Subscribe({.reservation_id = Id(1), .request_id = "request 1", .attempt = 3},
                        late.subscriber(), absl::NotFoundError("forgotten"));
  EXPECT_THAT(late.Wait(), ElementsAre("end NOT_FOUND"));
}

TEST_F(DecodeSchedulerTest, ALongGenerationOutlivesTheWaitForItsCommit) {
  TokenLog log;
  engine_.Hold();
  Subscribe(1, log);
  ASSERT_TRUE(Activate(1, {5}, 3).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  clock_.Advance(absl::Hours(1));
  engine_.Run();
  EXPECT_THAT(log.Wait(), ElementsAre("1:101", "2:102 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, AStreamWhoseCommitNeverComesEnds) {
  TokenLog patient, hasty;
  Subscribe(1, patient);
  Subscribe(2, hasty, 1, Deadline::After(clock_, absl::Seconds(3)));
  clock_.Advance(absl::Seconds(4));
  EXPECT_THAT(hasty.Wait(), ElementsAre("end DEADLINE_EXCEEDED"));
  EXPECT_EQ(patient.ends(), 0);
  clock_.Advance(absl::Seconds(120));
  EXPECT_THAT(patient.Wait(), ElementsAre("end DEADLINE_EXCEEDED"));
  EXPECT_EQ(released_.size(), 0u);
}

TEST_F(DecodeSchedulerTest, TheRequestsDeadlineEndsTheSequence) {
  TokenLog log;
  engine_.Hold();
  Subscribe(1, log, 1, Deadline::After(clock_, absl::Seconds(30)));
  ASSERT_TRUE(Activate(1, {5}, 500).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  clock_.Advance(absl::Seconds(30));
  engine_.Run();
  log.Wait();
  EXPECT_EQ(log.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
}

TEST_F(DecodeSchedulerTest, ACancelFreesAtOnceAndSparesTheOthers) {
  TokenLog gone, stays;
  engine_.Hold();
  Subscribe(1, gone);
  Subscribe(2, stays);
  ASSERT_TRUE(Activate(1, {5}, 500).ok());
  ASSERT_TRUE(Activate(2, {5}, 4).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  scheduler_->Cancel(Id(1));
  scheduler_->Cancel(Id(1));
  scheduler_->Cancel("unknown");
  engine_.Run();
  gone.Wait();
  EXPECT_EQ(gone.status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(stays.Wait(), ElementsAre("1:201", "2:202", "3:203 last", "end OK"));
  EXPECT_THAT(released_.Wait(2), ElementsAre(1, 2));
  const auto steps = engine_.steps();
  for (size_t i = 1; i < steps.size(); ++i) {
    for (const Item& item : steps[i]) EXPECT_EQ(item.handle, 2) << "step " << i;
  }
}

TEST_F(DecodeSchedulerTest, AFailedStepFailsItsBatchAsInternalAndNobodyElse) {
  TokenLog one, two, later;
  engine_.Hold();
  Subscribe(1, one);
  ASSERT_TRUE(Activate(1, {5}, 500).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  Subscribe(2, two);
  ASSERT_TRUE(Activate(2, {5}, 500).ok());
  engine_.Allow(1);
  ASSERT_TRUE(engine_.WaitForSteps(2));  // both are in it
  Subscribe(3, later);
  ASSERT_TRUE(Activate(3, {5}, 2).ok());  // not in it
  engine_.FailNext(absl::DeadlineExceededError("rank 1 is late"));
  engine_.Run();
  EXPECT_THAT(one.Wait(), ElementsAre("1:101", "end INTERNAL"));
  EXPECT_THAT(two.Wait(), ElementsAre("end INTERNAL"));
  EXPECT_THAT(one.status().ToString(), HasSubstr("rank 1 is late"));
  EXPECT_THAT(later.Wait(), ElementsAre("1:301 last", "end OK"));
  EXPECT_THAT(released_.Wait(3), ElementsAre(1, 2, 3));
}

TEST_F(DecodeSchedulerTest, AStreamOfAnotherRequestOrAttemptIsRefusedAndDisturbsNobody) {
  TokenLog good, early_stranger, stranger, other_attempt;
  engine_.Hold();
  scheduler_->Subscribe(
      {.reservation_id = Id(1), .request_id = "other", .attempt = 3, .from_index = 1},
      early_stranger.subscriber());
  ASSERT_TRUE(Activate(1, {5}, 3).ok());
  EXPECT_THAT(early_stranger.Wait(), ElementsAre("end FAILED_PRECONDITION"));
  Subscribe(1, good);
  scheduler_->Subscribe(
      {.reservation_id = Id(1), .request_id = "other", .attempt = 3, .from_index = 1},
      stranger.subscriber());
  scheduler_->Subscribe(
      {.reservation_id = Id(1), .request_id = "request 1", .attempt = 4, .from_index = 1},
      other_attempt.subscriber());
  EXPECT_THAT(stranger.Wait(), ElementsAre("end FAILED_PRECONDITION"));
  EXPECT_THAT(other_attempt.Wait(), ElementsAre("end FAILED_PRECONDITION"));
  engine_.Run();
  EXPECT_THAT(good.Wait(), ElementsAre("1:101", "2:102 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, AStreamThatHasNoCommitToWaitForEndsAndReplacesNobody) {
  TokenLog waiting, refused;
  Subscribe(1, waiting);
  scheduler_->Subscribe({.reservation_id = Id(1), .request_id = "request 1", .attempt = 3},
                        refused.subscriber(), absl::NotFoundError("it ended"));
  EXPECT_THAT(refused.Wait(), ElementsAre("end NOT_FOUND"));
  ASSERT_TRUE(Activate(1, {5}, 2).ok());
  EXPECT_THAT(waiting.Wait(), ElementsAre("1:101 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, ANegativeIndexIsRefused) {
  TokenLog log;
  Subscribe(1, log, -1);
  EXPECT_THAT(log.Wait(), ElementsAre("end INVALID_ARGUMENT"));
}

TEST_F(DecodeSchedulerTest, AnIndexBeyondTheEndHearsOnlyTheEnd) {
  TokenLog log;
  Subscribe(1, log, 1000);
  ASSERT_TRUE(Activate(1, {5}, 3).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("end OK"));
}

TEST_F(DecodeSchedulerTest, WhoeverWaitsHearsThatTheReservationEnded) {
  TokenLog waiting, running;
  Subscribe(1, waiting);
  scheduler_->EndWaiting(Id(1), absl::AbortedError("the prefill worker gave up"));
  EXPECT_THAT(waiting.Wait(), ElementsAre("end ABORTED"));
  engine_.Hold();
  Subscribe(2, running);
  ASSERT_TRUE(Activate(2, {5}, 2).ok());
  scheduler_->EndWaiting(Id(2), absl::AbortedError("too late"));  // it is a sequence by now
  engine_.Run();
  EXPECT_THAT(running.Wait(), ElementsAre("1:201 last", "end OK"));
}

TEST_F(DecodeSchedulerTest, ARunningReservationIsNotTakenTwice) {
  engine_.Hold();
  ASSERT_TRUE(Activate(1, {5}, 3).ok());
  EXPECT_EQ(Activate(1, {5}, 3).code(), absl::StatusCode::kAlreadyExists);
  engine_.Run();
  TokenLog log;
  Subscribe(1, log);
  EXPECT_THAT(log.Wait(), ElementsAre("1:101", "2:102 last", "end OK"));
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
}

TEST_F(DecodeSchedulerTest, ShuttingDownEndsAndFreesEverything) {
  TokenLog running, waiting, late;
  engine_.Hold();
  Subscribe(1, running);
  Subscribe(2, waiting);
  ASSERT_TRUE(Activate(1, {5}, 500).ok());
  ASSERT_TRUE(Activate(3, {5}, 500).ok());
  ASSERT_TRUE(engine_.WaitForSteps(1));
  DecodeScheduler* scheduler = scheduler_.get();  // lives until its step ends
  std::thread stopper([this] { scheduler_.reset(); });
  while (late.status().code() != absl::StatusCode::kUnavailable) {
    scheduler->Subscribe({.reservation_id = "late"}, late.subscriber());
  }
  engine_.Run();
  stopper.join();
  EXPECT_EQ(running.Wait().back(), "end UNAVAILABLE");
  EXPECT_THAT(waiting.Wait(), ElementsAre("end UNAVAILABLE"));
  EXPECT_THAT(released_.Wait(2), ElementsAre(1, 3));
  EXPECT_LE(engine_.steps().size(), 2u);
}

TEST_F(DecodeSchedulerTest, ManySequencesFromManyThreadsAllGetTheirOwnTokens) {
  constexpr int kThreads = 4, kEach = 25;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        const int64_t handle = 1 + t * kEach + i;
        TokenLog log;
        if (i % 2 == 0) Subscribe(handle, log);
        EXPECT_TRUE(Activate(handle, {5}, 4).ok());
        if (i % 2 == 1) Subscribe(handle, log);
        if (i % 5 == 4) scheduler_->Cancel(Id(handle));  // may come too late
        const auto events = log.Wait();
        ASSERT_EQ(log.ends(), 1);
        for (size_t k = 0; k + 1 < events.size(); ++k) {
          EXPECT_THAT(events[k], HasSubstr(absl::StrCat(
                                     k + 1, ":", 100 * handle + static_cast<int64_t>(k) + 1)));
        }
        if (i % 5 != 4) {
          EXPECT_EQ(log.status(), absl::OkStatus());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(released_.Wait(kThreads * kEach), SizeIs(kThreads * kEach));
  EXPECT_EQ(scheduler_->num_sequences(), 0);
}

}  // namespace
}  // namespace winnow
