#include "prefill_worker/prefill_scheduler.h"

#include <future>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/prefill_worker/fake_prefill.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

// Holds up the thread that passes while the gate is closed.
class Gate {
 public:
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++arrivals_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || permits_ > 0; });
    if (!open_) --permits_;
  }
  void Set(bool open) {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = open;
    permits_ = 0;
    changed_.notify_all();
  }
  // Lets the thread pass once through the closed gate.
  void PassOnce() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++permits_;
    changed_.notify_all();
  }
  int arrivals() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return arrivals_;
  }
  // Waits until the thread has come to the gate `count` times in all.
  void AwaitArrivals(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(
        changed_.wait_for(lock, std::chrono::seconds(20), [&] { return arrivals_ >= count; }));
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int permits_ = 0;
  int arrivals_ = 0;
};

class PrefillSchedulerTest : public ::testing::Test {
 protected:
  ~PrefillSchedulerTest() override { gate_.Set(true); }  // whatever an assertion left closed
  void Start(PrefillScheduler::Options options = {}) { StartBy(clock_, options); }
  void StartBy(const Clock& clock, PrefillScheduler::Options options) {
    scheduler_.reset();  // two at a time would report to the same events
    scheduler_ = std::make_unique<PrefillScheduler>(engine_, handoffs_, clock, events_, options);
  }
  // Every step of the engine waits at the gate, which is closed.
  void CloseGate() {
    engine_.on_step = [this] { gate_.Pass(); };
    gate_.Set(false);
  }
  // Lets single steps of the scheduler through the gate, where one waits already, until the job has
  // ended. The decode worker's answers come between the steps. Others must have steps left.
  void StepUntilEnd(JobLog& log, int most_steps) {
    for (int steps = 0; steps < most_steps && !log.has_ended(); ++steps) {
      handoffs_.AwaitCallbacks();
      const int arrivals = gate_.arrivals();
      gate_.PassOnce();
      gate_.AwaitArrivals(arrivals + 1);
    }
    EXPECT_TRUE(log.has_ended());
  }
  PrefillJob Job(const std::string& id, int prompt_tokens, int max_tokens = 5) {
    PrefillJob job;
    job.target = {.request_id = id, .decode_address = "d:1"};
    job.prompt_ids.assign(prompt_tokens, 1);
    job.selection.policy = &kFullPolicy;
    job.sampling.max_tokens = max_tokens;
    job.sampling.stop_token_ids = {42};
    return job;
  }

  // What the scheduler told of its work; read it when the scheduler is gone.
  struct Told final : public PrefillEvents {
    void OnComputed(int64_t tokens) override { computed += tokens; }
    void OnFailed(const PrefillJob&, const absl::Status&, int64_t wasted_tokens) override {
      ++failed;
      wasted += wasted_tokens;
    }
    void OnQueued(const PrefillQueue& waiting) override {
      most_waiting = std::max(most_waiting, waiting.normal);
    }
    void OnTransferred(const KvHandoff::Summary& summary, absl::Duration) override {
      sent_bytes += summary.kv_payload_bytes;
    }
    void OnTransferFailed(const absl::Status&) override { ++transfers_failed; }
    void OnPinnedBytes(int64_t bytes) override { on_pinned_bytes(bytes); }
    std::function<void(int64_t)> on_pinned_bytes = [](int64_t) {};  // set before the start
    int64_t computed = 0, wasted = 0, most_waiting = 0, sent_bytes = 0;
    int failed = 0, transfers_failed = 0;
  };

  RealClock clock_;
  FakeClock fake_clock_;
  Gate gate_;
  Told events_;
  FakePrefillEngine engine_;
  FakeHandoffs handoffs_;
  std::unique_ptr<PrefillScheduler> scheduler_;
};

TEST_F(PrefillSchedulerTest, ReservesComputesAndCommits) {
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("reserved reservation of a", "token 30", "committed"));
  EXPECT_THAT(handoffs_.calls(), ElementsAre("reserve a", "commit a 30"));
  EXPECT_EQ(log.summary().ledger.prompt_tokens, 30);
  EXPECT_EQ(log.summary().kv_payload_bytes_sent, 1234);
  EXPECT_EQ(engine_.num_sequences(), 0u);
}

TEST_F(PrefillSchedulerTest, OneTokenNeedsNoDecodeWorker) {
  Start();
  JobLog log;
  PrefillJob job = Job("a", 30, /*max_tokens=*/1);
  job.target.decode_address.clear();
  ASSERT_TRUE(scheduler_->Submit(std::move(job), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("token 30", "committed alone"));
  EXPECT_THAT(handoffs_.calls(), IsEmpty());
  EXPECT_EQ(log.summary().ledger.kv_bytes_shipped, 0);
}

TEST_F(PrefillSchedulerTest, AStopAsFirstTokenFreesTheReservation) {
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 42), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(),
              ElementsAre("reserved reservation of a", "token 42 stop", "committed alone"));
  EXPECT_THAT(handoffs_.calls(), ElementsAre("reserve a", "abort a"));
}

TEST_F(PrefillSchedulerTest, ForcedTokensAreCommittedAndNoneIsMade) {
  Start();
  JobLog log;
  PrefillJob job = Job("a", 30);
  job.forced_tokens = {7, 8};
  ASSERT_TRUE(scheduler_->Submit(std::move(job), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("reserved reservation of a", "committed"));
  EXPECT_THAT(handoffs_.calls(), Contains("commit a 7 8"));
}

TEST_F(PrefillSchedulerTest, ForcedTokensThatCannotBeAreRefusedBeforeAnyWork) {
  Start();
  JobLog log;
  for (const std::vector<int32_t>& forced :
       {std::vector<int32_t>{1, 2, 3, 4, 5}, {100}, {-1}}) {  // of max_tokens 5, vocabulary 100
    PrefillJob job = Job("a", 30);
    job.forced_tokens = forced;
    EXPECT_EQ(scheduler_->Submit(std::move(job), log.callbacks()).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(handoffs_.calls(), IsEmpty());
}

TEST_F(PrefillSchedulerTest, ARefusedReservationFailsTheJobBeforeAnyWork) {
  handoffs_.FailReserve("a", absl::ResourceExhaustedError("full"));
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("failed RESOURCE_EXHAUSTED"));
  EXPECT_EQ(engine_.steps, 0);
}

TEST_F(PrefillSchedulerTest, KvOfAFailedHandoffCanBeSentAgain) {
  handoffs_.FailCommit("a", absl::UnavailableError("decode worker is gone"));
  Start();
  JobLog first, again, unknown;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), first.callbacks()).ok());
  EXPECT_THAT(first.Wait(),
              ElementsAre("reserved reservation of a", "token 30", "failed UNAVAILABLE"));
  const int steps = engine_.steps;
  handoffs_.FailCommit("a", absl::OkStatus());
  const HandoffTarget other{.request_id = "a", .attempt = 2, .decode_address = "e:1"};
  ASSERT_TRUE(scheduler_->Resend(other, std::make_shared<StopFlag>(), again.callbacks()).ok());
  EXPECT_THAT(again.Wait(), ElementsAre("reserved reservation of a", "committed"));
  EXPECT_EQ(engine_.steps, steps);
  ASSERT_TRUE(scheduler_->Resend(other, std::make_shared<StopFlag>(), unknown.callbacks()).ok());
  EXPECT_THAT(unknown.Wait(), ElementsAre("failed NOT_FOUND"));
  scheduler_.reset();
  EXPECT_EQ(events_.failed, 1);  // resends are no jobs
}

TEST_F(PrefillSchedulerTest, TellsWhatWasComputedForNothing) {
  auto stop = std::make_shared<StopFlag>();
  engine_.on_step = [&] { stop->Stop(absl::StatusCode::kCancelled); };  // during the first of two
  Start();
  JobLog log;
  PrefillJob job = Job("a", 100);
  job.stop = stop;
  ASSERT_TRUE(scheduler_->Submit(std::move(job), log.callbacks()).ok());
  log.Wait();
  scheduler_.reset();
  EXPECT_EQ(events_.computed, 64);
  EXPECT_EQ(events_.wasted, 64);
  EXPECT_EQ(events_.transfers_failed, 0);  // by its caller's wish
}

TEST_F(PrefillSchedulerTest, TellsHowManyWait) {
  CloseGate();
  Start({.admission = {.max_active = 1}});
  JobLog logs[3];
  for (JobLog& log : logs) {
    ASSERT_TRUE(scheduler_->Submit(Job("a", 300), log.callbacks()).ok());
  }
  gate_.Set(true);
  for (JobLog& log : logs) EXPECT_THAT(log.Wait(), Contains("committed"));
  scheduler_.reset();
  EXPECT_GE(events_.most_waiting, 2);  // 3 where the first one's grant was not there at once
}

TEST_F(PrefillSchedulerTest, KvThatMayBeSentAgainIsNotWasted) {
  handoffs_.FailCommit("a", absl::UnavailableError("decode worker is gone"));
  Start();
  JobLog first, again;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), first.callbacks()).ok());
  first.Wait();
  handoffs_.FailCommit("a", absl::OkStatus());
  const HandoffTarget other{.request_id = "a", .attempt = 2, .decode_address = "e:1"};
  ASSERT_TRUE(scheduler_->Resend(other, std::make_shared<StopFlag>(), again.callbacks()).ok());
  again.Wait();
  scheduler_.reset();
  EXPECT_EQ(events_.computed, 30);
  EXPECT_EQ(events_.wasted, 0);
  EXPECT_EQ(events_.transfers_failed, 1);
  EXPECT_EQ(events_.sent_bytes, 1234);
}

TEST_F(PrefillSchedulerTest, KvThatTheDeviceDidNotFinishIsNotSentAgain) {
  for (const absl::Status& failure :
       {absl::InternalError("an illegal address"), absl::DeadlineExceededError("the device")}) {
    handoffs_.FailCommit("a", failure);
    Start();
    JobLog first, again;
    ASSERT_TRUE(scheduler_->Submit(Job("a", 30), first.callbacks()).ok());
    first.Wait();
    const HandoffTarget other{.request_id = "a", .attempt = 2, .decode_address = "e:1"};
    ASSERT_TRUE(scheduler_->Resend(other, std::make_shared<StopFlag>(), again.callbacks()).ok());
    EXPECT_THAT(again.Wait(), ElementsAre("failed NOT_FOUND")) << failure;
    EXPECT_EQ(scheduler_->staging_bytes(), 0);
  }
}

TEST_F(PrefillSchedulerTest, RetainedKvGoesByItself) {
  handoffs_.FailCommit("a", absl::UnavailableError("decode worker is gone"));
  std::promise<void> retained, gone;
  events_.on_pinned_bytes = [&](int64_t bytes) { (bytes > 0 ? retained : gone).set_value(); };
  StartBy(fake_clock_, {.retained = {.max_age = absl::Seconds(30)}});
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), log.callbacks()).ok());
  retained.get_future().wait();
  EXPECT_GT(scheduler_->staging_bytes(), 0);
  fake_clock_.Advance(absl::Seconds(31));  // nothing else happens
  gone.get_future().wait();
  EXPECT_EQ(scheduler_->staging_bytes(), 0);
}

TEST_F(PrefillSchedulerTest, AFailedStepFailsItsJobsAndAbortsTheirReservations) {
  engine_.step_error = absl::InternalError("rank 1 failed");
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 30), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("reserved reservation of a", "failed INTERNAL"));
  EXPECT_THAT(handoffs_.calls(), Contains("abort a"));
  EXPECT_EQ(engine_.num_sequences(), 0u);
}

TEST_F(PrefillSchedulerTest, APromptThatFailsAloneLeavesItsNeighboursAlone) {
  engine_.bad_prompt = 20;
  CloseGate();
  Start();
  JobLog first, bad, good;
  ASSERT_TRUE(scheduler_->Submit(Job("first", 60), first.callbacks()).ok());
  ASSERT_TRUE(scheduler_->Submit(Job("bad", 20), bad.callbacks()).ok());
  ASSERT_TRUE(scheduler_->Submit(Job("good", 25), good.callbacks()).ok());
  gate_.Set(true);
  EXPECT_THAT(bad.Wait(), ElementsAre("reserved reservation of bad", "failed INTERNAL"));
  EXPECT_THAT(good.Wait(), Contains("committed"));
  EXPECT_THAT(first.Wait(), Contains("committed"));
  EXPECT_EQ(engine_.num_sequences(), 0u);
}

TEST_F(PrefillSchedulerTest, AFailedStepsTimeIsNotTheRate) {
  bool fails = false;  // set while the scheduler waits at the gate
  engine_.on_step = [&] {
    gate_.Pass();
    fake_clock_.Advance(fails ? absl::Seconds(120) : absl::Milliseconds(10));
    engine_.step_error = fails ? absl::DeadlineExceededError("rank 1 hangs") : absl::OkStatus();
    fails = false;
  };
  StartBy(fake_clock_, {.admission = {.max_queue_time = absl::Hours(1)}});
  JobLog warm, bad, next, last;
  ASSERT_TRUE(scheduler_->Submit(Job("warm", 640), warm.callbacks()).ok());
  warm.Wait();
  gate_.Set(false);
  const int before = gate_.arrivals();
  ASSERT_TRUE(scheduler_->Submit(Job("bad", 640), bad.callbacks()).ok());
  gate_.AwaitArrivals(before + 1);
  ASSERT_TRUE(scheduler_->Submit(Job("next", 640), next.callbacks()).ok());
  fails = true;
  gate_.Set(true);
  EXPECT_THAT(bad.Wait(), Contains("failed DEADLINE_EXCEEDED"));
  EXPECT_THAT(next.Wait(), Contains("committed"));
  gate_.Set(false);
  ASSERT_TRUE(scheduler_->Submit(Job("last", 9000), last.callbacks()).ok());
  EXPECT_LT(scheduler_->queued_time(), absl::Seconds(3));  // 140 steps
  gate_.Set(true);
  scheduler_.reset();  // before what its steps refer to
}

TEST_F(PrefillSchedulerTest, ACancelStopsAtTheNextChunk) {
  PrefillJob job = Job("a", 9000);  // 140 steps
  engine_.on_step = [this, stop = job.stop] {
    if (engine_.steps == 9) stop->Stop(absl::StatusCode::kCancelled);  // during the tenth
  };
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(std::move(job), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), Contains("failed CANCELLED"));
  EXPECT_EQ(engine_.steps, 10);
  EXPECT_EQ(engine_.num_sequences(), 0u);
  EXPECT_THAT(handoffs_.calls(), Contains("abort a"));
}

TEST_F(PrefillSchedulerTest, APassedDeadlineFailsTheJob) {
  Start();
  JobLog log;
  PrefillJob job = Job("a", 9000);
  job.target.deadline = Deadline::At(clock_.Now() - absl::Seconds(1));
  ASSERT_TRUE(scheduler_->Submit(std::move(job), log.callbacks()).ok());
  EXPECT_THAT(log.Wait(), ElementsAre("failed DEADLINE_EXCEEDED"));
}

TEST_F(PrefillSchedulerTest, AJobThatWouldComeTooLateIsRefusedAtOnce) {
  engine_.on_step = [this] {
    gate_.Pass();
    fake_clock_.Advance(absl::Milliseconds(10));
  };
  StartBy(fake_clock_, {.admission = {.max_queue_time = absl::Seconds(2),
                                      .retry_after = absl::Milliseconds(1)}});
  JobLog warm, running, late, patient, third;
  ASSERT_TRUE(scheduler_->Submit(Job("warm", 640), warm.callbacks()).ok());  // ten steps
  warm.Wait();
  EXPECT_EQ(scheduler_->queued_time(), absl::ZeroDuration());
  gate_.Set(false);
  PrefillJob long_job = Job("running", 9000);  // 1.4 s
  const std::shared_ptr<StopFlag> stop = long_job.stop;
  ASSERT_TRUE(scheduler_->Submit(std::move(long_job), running.callbacks()).ok());
  EXPECT_GT(scheduler_->queued_time(), absl::Seconds(1));

  PrefillJob hurried = Job("late", 640);
  hurried.target.deadline = Deadline::After(fake_clock_, absl::Milliseconds(300));
  const absl::Status refused = scheduler_->Submit(std::move(hurried), late.callbacks());
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_GT(GetRetryAfter(refused), absl::Milliseconds(300));
  ASSERT_TRUE(scheduler_->Submit(Job("patient", 9000), patient.callbacks()).ok());
  EXPECT_EQ(scheduler_->Submit(Job("third", 640), third.callbacks()).code(),
            absl::StatusCode::kResourceExhausted);  // more than two seconds of work wait
  stop->Stop(absl::StatusCode::kCancelled);
  gate_.Set(true);
  running.Wait();
  EXPECT_LT(scheduler_->queued_time(), absl::Seconds(2));  // what was given up is not waited for
}

TEST_F(PrefillSchedulerTest, AFullQueueRefusesWithAHint) {
  CloseGate();
  Start({.admission = {.max_jobs = 2}});
  JobLog a, b, c;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 3000), a.callbacks()).ok());
  ASSERT_TRUE(scheduler_->Submit(Job("b", 3000), b.callbacks()).ok());
  const absl::Status refused = scheduler_->Submit(Job("c", 10), c.callbacks());
  gate_.Set(true);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetRetryAfter(refused).has_value());
  EXPECT_THAT(a.Wait(), Contains("committed"));
  EXPECT_THAT(b.Wait(), Contains("committed"));
}

TEST_F(PrefillSchedulerTest, APromptThatNeverFitsIsRefusedBeforeAnyWork) {
  engine_.memory_bytes = 400;
  Start();
  JobLog log;
  const absl::Status refused = scheduler_->Submit(Job("a", 401), log.callbacks());
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()),
              testing::HasSubstr("401 tokens with policy full needs"));
  EXPECT_THAT(handoffs_.calls(), IsEmpty());
}

TEST_F(PrefillSchedulerTest, PromptsThatDoNotFitTogetherRunOneAfterAnother) {
  engine_.memory_bytes = 400;
  Start();
  JobLog logs[4];
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(scheduler_->Submit(Job(std::string(1, 'a' + i), 300), logs[i].callbacks()).ok());
  }
  for (JobLog& log : logs) EXPECT_THAT(log.Wait(), Contains("committed"));
  EXPECT_EQ(engine_.most_sequences, 1u);
}

TEST_F(PrefillSchedulerTest, AnUrgentPromptThatFitsDoesNotWaitForOneThatDoesNot) {
  engine_.memory_bytes = 10000;
  CloseGate();
  Start();
  JobLog running, normal, urgent;
  ASSERT_TRUE(scheduler_->Submit(Job("running", 9000), running.callbacks()).ok());
  gate_.AwaitArrivals(1);
  ASSERT_TRUE(scheduler_->Submit(Job("normal", 9900), normal.callbacks()).ok());
  PrefillJob job = Job("urgent", 900);
  job.priority = 1;
  ASSERT_TRUE(scheduler_->Submit(std::move(job), urgent.callbacks()).ok());
  handoffs_.AwaitCallbacks();  // both are granted while the first one runs
  gate_.Set(true);
  for (JobLog* log : {&running, &normal, &urgent}) EXPECT_THAT(log->Wait(), Contains("committed"));
  EXPECT_THAT(engine_.admitted, ElementsAre(9000, 900, 9900));
}

TEST_F(PrefillSchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  CloseGate();
  Start();
  JobLog long_one, short_one;
  ASSERT_TRUE(scheduler_->Submit(Job("long", 9000), long_one.callbacks()).ok());  // 140 steps
  gate_.AwaitArrivals(1);
  ASSERT_TRUE(scheduler_->Submit(Job("short", 20), short_one.callbacks()).ok());
  StepUntilEnd(short_one, /*most_steps=*/5);
  EXPECT_THAT(short_one.Wait(), Contains("committed"));
  EXPECT_EQ(scheduler_->num_jobs(), 1);
  gate_.Set(true);
  EXPECT_THAT(long_one.Wait(), Contains("committed"));
}

TEST_F(PrefillSchedulerTest, AJobIsReservedForWhileAStepRuns) {
  std::promise<void> begun, ended;
  std::once_flag first;
  engine_.on_step = [&] {
    std::call_once(first, [&] {
      begun.set_value();
      ended.get_future().wait();
    });
  };
  Start();
  JobLog long_one, short_one;
  ASSERT_TRUE(scheduler_->Submit(Job("long", 9000), long_one.callbacks()).ok());
  begun.get_future().wait();
  ASSERT_TRUE(scheduler_->Submit(Job("short", 8), short_one.callbacks()).ok());
  EXPECT_THAT(handoffs_.calls(), ElementsAre("reserve long", "reserve short"));
  ended.set_value();
  EXPECT_THAT(short_one.Wait(), Contains("committed"));
  scheduler_.reset();  // before what its steps refer to
}

TEST_F(PrefillSchedulerTest, ShortJobsHaveSlotsOfTheirOwn) {
  CloseGate();
  Start({.admission = {.max_active = 1}});
  JobLog logs[3], short_one;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(scheduler_->Submit(Job(std::string(1, 'a' + i), 9000), logs[i].callbacks()).ok());
  }
  ASSERT_TRUE(scheduler_->Submit(Job("short", 8), short_one.callbacks()).ok());
  gate_.AwaitArrivals(1);
  StepUntilEnd(short_one, /*most_steps=*/6);
  EXPECT_THAT(short_one.Wait(), Contains("committed"));
  EXPECT_EQ(scheduler_->num_jobs(), 3);
  EXPECT_THAT(handoffs_.calls(), Not(Contains("reserve b")));
}

TEST_F(PrefillSchedulerTest, SaysWhatItHasWhenItTakesAJob) {
  CloseGate();
  Start();
  JobLog a, b;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 3000), a.callbacks()).ok());
  PrefillLoad said;
  PrefillCallbacks callbacks = b.callbacks();
  callbacks.accepted = [&](const PrefillLoad& load) { said = load; };
  ASSERT_TRUE(scheduler_->Submit(Job("b", 20), callbacks).ok());
  EXPECT_EQ(said.jobs, 2);
  EXPECT_EQ(said.tokens, (3 * 3020 + 2) / 4);  // of four layers the last is for one row each
  gate_.Set(true);
  b.Wait();
  a.Wait();
  EXPECT_EQ(scheduler_->load().jobs, 0);
  EXPECT_EQ(scheduler_->load().tokens, 0);
}

TEST_F(PrefillSchedulerTest, DrainingRefusesNewJobsAndFinishesOldOnes) {
  Start();
  JobLog log, late;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 300), log.callbacks()).ok());
  scheduler_->Drain();
  EXPECT_EQ(scheduler_->Submit(Job("b", 3), late.callbacks()).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_THAT(log.Wait(), Contains("committed"));
}

TEST_F(PrefillSchedulerTest, ShuttingDownFailsWhatIsLeft) {
  CloseGate();
  Start();
  JobLog log;
  ASSERT_TRUE(scheduler_->Submit(Job("a", 9000), log.callbacks()).ok());  // 140 steps
  gate_.AwaitArrivals(1);
  const auto ended = std::async(std::launch::async, [this] { scheduler_.reset(); });
  while (ended.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
    gate_.PassOnce();
  }
  EXPECT_THAT(log.Wait(), Contains("failed UNAVAILABLE"));
  EXPECT_EQ(engine_.num_sequences(), 0u);
}

}  // namespace
}  // namespace winnow
