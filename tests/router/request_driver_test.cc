#include "router/request_driver.h"

#include <future>
#include <set>
#include <thread>

#include "common/peer_failure.h"
#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/fake_timer.h"
#include "tests/router/fake_worker_source.h"
#include "tests/router/fake_workers.h"

namespace winnow {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

class RequestDriverTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (driver_ != nullptr) driver_->Cancel(absl::StatusCode::kCancelled);  // lets go of its calls
  }
  void Workers(const std::vector<std::string>& prefill, const std::vector<std::string>& decode) {
    WorkerRegistry::Options options;
    options.poll_period = absl::Hours(1);
    registry_ = nullptr;  // before its source changes
    source_.Set(prefill, decode);
    registry_ = std::make_unique<WorkerRegistry>(
        workers_, clock_, std::vector<const WorkerSource*>{&source_}, options);
    const size_t all = prefill.size() + decode.size();
    for (int i = 0; i < 500 && registry_->Workers().size() < all; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_THAT(registry_->Workers(), SizeIs(all));
  }
  void Start(int max_tokens = 3, RequestDriver::Options options = {}) {
    v1::PrefillRequest request;
    request.set_request_id("r");
    request.add_prompt_ids(1);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    DriverCallbacks callbacks;
    callbacks.token = [this](int32_t index, int32_t id, bool is_stop) {
      events_.push_back(std::to_string(index) + ":" + std::to_string(id) +
                        (is_stop ? " stop" : ""));
      on_token_();
      return enough_at_ == index ? TokenReply::kEnough : TokenReply::kContinue;
    };
    callbacks.accepted = [] {};
    callbacks.finished = [this](const DriverResult&) { events_.push_back("finished"); };
    callbacks.failed = [this](const absl::Status& s) {
      events_.push_back("failed " + absl::StatusCodeToString(s.code()));
    };
    options.trace = {.trace_id = "t"};
    const RequestDriver::Parts parts{workers_, *registry_, clock_, timer_, counters_};
    driver_ =
        std::make_shared<RequestDriver>(request, Deadline::Infinite(), parts, callbacks, options);
    driver_->Start();
  }

  // A full worker's words.
  static absl::Status Full() {
    absl::Status full = absl::ResourceExhaustedError("full");
    SetRetryAfter(full, absl::Seconds(3));
    return full;
  }
  static v1::PrefillResponse Accepted() {
    v1::PrefillResponse r;
    r.mutable_accepted()->set_tensor_parallel(2);
    return r;
  }
  static v1::PrefillResponse Reserved(const std::string& decode, const std::string& id) {
    v1::PrefillResponse r;
    r.mutable_reserved()->set_decode_address(decode);
    r.mutable_reserved()->set_reservation_id(id);
    return r;
  }
  static v1::PrefillResponse Token(int id, bool is_stop = false) {
    v1::PrefillResponse r;
    r.mutable_token()->set_id(id);
    r.mutable_token()->set_is_stop(is_stop);
    return r;
  }
  static v1::PrefillResponse Committed() {
    v1::PrefillResponse r;
    r.mutable_committed();
    return r;
  }
  static v1::DecodeResponse Decoded(int index, int id, bool is_last = false) {
    v1::DecodeResponse r;
    r.set_index(index);
    r.set_id(id);
    r.set_is_last(is_last);
    return r;
  }

  // After token 0 and before the commit; its address.
  std::string StartAndLoseTheDecodeWorker() {
    Start();
    auto& p = *workers_.prefills.at(0);
    const std::string decode = p.request.decode_address();
    p.Say(Accepted());
    p.Say(Reserved(decode, "R"));
    p.Say(Token(10));
    p.End(absl::UnavailableError("the decode worker is gone"));
    return decode;
  }

  RealClock clock_;
  FakeWorkers workers_;
  FakeTimer timer_;
  FakeWorkerSource source_;
  std::unique_ptr<WorkerRegistry> registry_;
  DriverEvents counters_;
  std::vector<std::string> events_;
  int enough_at_ = -1;                      // the last token that the receiver wants
  std::function<void()> on_token_ = [] {};  // while it is being delivered
  std::shared_ptr<RequestDriver> driver_;
};

TEST_F(RequestDriverTest, RelaysTokensInOrderAndFinishes) {
  Workers({"p:1"}, {"d:1"});
  Start();
  auto& p = *workers_.prefills.at(0);
  EXPECT_EQ(p.request.decode_address(), "d:1");
  EXPECT_EQ(p.request.decode_incarnation(), 7u);
  EXPECT_EQ(p.trace.trace_id, "t");
  p.Say(Accepted());
  p.Say(Reserved("d:1", "R"));
  EXPECT_THAT(workers_.decodes, IsEmpty());  // token 0 may be the last
  p.Say(Token(10));
  EXPECT_THAT(events_, ElementsAre("0:10"));  // at once, before the commit
  auto& d = *workers_.decodes.at(0);
  EXPECT_EQ(d.request.from_index(), 1);
  EXPECT_EQ(d.trace.trace_id, "t");
  d.Say(Decoded(2, 12, true));  // out of order
  EXPECT_THAT(events_, SizeIs(1));
  d.Say(Decoded(1, 11));
  d.Say(Decoded(1, 99));  // again: dropped
  EXPECT_THAT(events_, ElementsAre("0:10", "1:11", "2:12"));
  p.Say(Committed());
  EXPECT_THAT(events_, Contains("finished"));
  p.End(absl::OkStatus());
  d.End(absl::OkStatus());
  EXPECT_THAT(events_, SizeIs(4));
}

TEST_F(RequestDriverTest, OneTokenNeedsNoDecodeWorker) {
  Workers({"p:1"}, {});
  Start(/*max_tokens=*/1);
  auto& p = *workers_.prefills.at(0);
  EXPECT_EQ(p.request.decode_address(), "");
  p.Say(Token(10));
  p.Say(Committed());
  EXPECT_THAT(events_, ElementsAre("0:10", "finished"));
  EXPECT_THAT(workers_.decodes, IsEmpty());
}

TEST_F(RequestDriverTest, AStopAsFirstTokenOpensNoMoreDecode) {
  Workers({"p:1"}, {"d:1"});
  Start();
  auto& p = *workers_.prefills.at(0);
  p.Say(Token(5, /*is_stop=*/true));
  p.Say(Reserved("d:1", "R"));
  p.Say(Committed());
  EXPECT_THAT(events_, ElementsAre("0:5 stop", "finished"));
  EXPECT_THAT(workers_.decodes, IsEmpty());
}

TEST_F(RequestDriverTest, APrefillThatDiesBeforeItsTokenIsTriedElsewhere) {
  Workers({"p:1", "p:2"}, {"d:1", "d:2"});
  Start();
  const std::string first = workers_.prefills.at(0)->address;
  workers_.prefills.at(0)->End(absl::UnavailableError("gone"));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  EXPECT_NE(workers_.prefills.at(1)->address, first);
  EXPECT_EQ(workers_.prefills.at(1)->request.attempt(), 2u);
  EXPECT_EQ(workers_.prefills.at(1)->request.forced_tokens_size(), 0);
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(RequestDriverTest, AfterTokenZeroTheKvIsSentAgainToAnotherDecodeWorker) {
  Workers({"p:1"}, {"d:1", "d:2"});
  const std::string first = StartAndLoseTheDecodeWorker();
  timer_.Fire();
  ASSERT_THAT(workers_.resends, SizeIs(1));
  EXPECT_THAT(workers_.prefills, SizeIs(1));
  EXPECT_NE(workers_.resends.at(0)->request.decode_address(), first);
  v1::ResendResponse reserved;
  reserved.mutable_reserved()->set_decode_address("d:2");
  reserved.mutable_reserved()->set_reservation_id("S");
  workers_.resends.at(0)->Say(reserved);
  ASSERT_THAT(workers_.decodes, SizeIs(2));
  EXPECT_EQ(workers_.decodes.at(1)->request.from_index(), 1);
  v1::ResendResponse committed;
  committed.mutable_committed();
  workers_.resends.at(0)->Say(committed);
  workers_.decodes.at(1)->Say(Decoded(1, 11));
  workers_.decodes.at(1)->Say(Decoded(2, 12, true));
  EXPECT_THAT(events_, ElementsAre("0:10", "1:11", "2:12", "finished"));
}

TEST_F(RequestDriverTest, LostKvIsPrefilledAgainWithTheTokensThatWereSent) {
  Workers({"p:1"}, {"d:1", "d:2"});
  StartAndLoseTheDecodeWorker();
  timer_.Fire();
  workers_.resends.at(0)->End(absl::NotFoundError("no longer retained"));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  EXPECT_THAT(workers_.prefills.at(1)->request.forced_tokens(), ElementsAre(10));
}

TEST_F(RequestDriverTest, ADecodeWorkerThatDiesAfterTheCommitIsMigratedFrom) {
  Workers({"p:1"}, {"d:1", "d:2"});
  Start(/*max_tokens=*/4);
  auto& p = *workers_.prefills.at(0);
  const std::string first = p.request.decode_address();
  p.Say(Reserved(first, "R"));
  p.Say(Token(10));
  p.Say(Committed());
  workers_.decodes.at(0)->Say(Decoded(1, 11));
  workers_.decodes.at(0)->End(absl::UnavailableError("gone"));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  auto& again = *workers_.prefills.at(1);
  EXPECT_THAT(again.request.forced_tokens(), ElementsAre(10, 11));
  EXPECT_NE(again.request.decode_address(), first);
  again.Say(Reserved(again.request.decode_address(), "S"));
  EXPECT_EQ(workers_.decodes.at(1)->request.from_index(), 2);
  again.Say(Committed());
  workers_.decodes.at(0)->Say(Decoded(2, 99));  // a late word of the old one
  workers_.decodes.at(1)->Say(Decoded(2, 12));
  workers_.decodes.at(1)->Say(Decoded(3, 13, true));
  EXPECT_THAT(events_, ElementsAre("0:10", "1:11", "2:12", "3:13", "finished"));
}

// What the registry holds against whom after as many failures as open a breaker.
TEST_F(RequestDriverTest, AFailureCountsAgainstTheWorkerWhoseItIs) {
  const absl::Status own = absl::UnavailableError("the engine is gone");
  absl::Status peers = absl::UnavailableError("the decode worker is gone");
  SetPeerFailed(peers);
  struct Row {
    absl::Status reason;
    int prefill_failing, decode_failing;
  };
  for (const Row& row : {Row{own, 1, 0}, Row{peers, 0, 1}, Row{absl::InternalError("NaN"), 1, 0},
                         Row{absl::ResourceExhaustedError("full"), 0, 0},
                         Row{absl::InvalidArgumentError("bad"), 0, 0}}) {
    Workers({"p:1"}, {"d:1"});
    for (int i = 0; i < CircuitBreaker::Options().min_failures; ++i) {
      Start();
      workers_.prefills.back()->Say(Accepted());
      workers_.prefills.back()->End(row.reason);
      driver_->Cancel(absl::StatusCode::kCancelled);
    }
    EXPECT_EQ(registry_->Count(v1::WORKER_ROLE_PREFILL).failing, row.prefill_failing) << row.reason;
    EXPECT_EQ(registry_->Count(v1::WORKER_ROLE_DECODE).failing, row.decode_failing) << row.reason;
  }
}

TEST_F(RequestDriverTest, RefusalsThatNothingCuresAreNotRetried) {
  for (const absl::Status& status :
       {absl::InvalidArgumentError("bad"), absl::InternalError("NaN")}) {
    Workers({"p:1"}, {"d:1"});
    events_.clear();
    Start();
    workers_.prefills.back()->End(status);
    EXPECT_THAT(events_, ElementsAre("failed " + absl::StatusCodeToString(status.code())));
    EXPECT_THAT(timer_.callbacks, IsEmpty());
    registry_.reset();
  }
}

TEST_F(RequestDriverTest, RetriesAreBoundedAndRespectTheHint) {
  Workers({"p:1"}, {"d:1"});
  Start();
  for (int i = 0; i < 10; ++i) {
    workers_.prefills.back()->End(Full());
    timer_.Fire();
  }
  EXPECT_THAT(workers_.prefills, SizeIs(RequestDriver::Options{}.max_attempts));
  EXPECT_THAT(events_, ElementsAre("failed RESOURCE_EXHAUSTED"));
  for (const absl::Duration delay : timer_.delays) EXPECT_GE(delay, absl::Seconds(3));
}

TEST_F(RequestDriverTest, AnotherWorkerIsAskedBeforeTheHintOfAFullOneIsWaitedFor) {
  Workers({"p:1", "p:2"}, {"d:1"});
  Start();
  for (int i = 0; i < 2; ++i) {
    workers_.prefills.back()->End(Full());
    timer_.Fire();
  }
  ASSERT_THAT(workers_.prefills, SizeIs(3));
  EXPECT_NE(workers_.prefills[0]->address, workers_.prefills[1]->address);
  ASSERT_THAT(timer_.delays, SizeIs(2));
  EXPECT_LT(timer_.delays[0], absl::Seconds(1));
  EXPECT_GE(timer_.delays[1], absl::Seconds(3));
}

// The prefill workers have room, so going to the other one does not help.
TEST_F(RequestDriverTest, TheHintOfTheOnlyDecodeWorkerIsWaitedFor) {
  Workers({"p:1", "p:2"}, {"d:1"});
  Start();
  for (int i = 0; i < 3; ++i) {
    workers_.prefills.back()->Say(Accepted());
    workers_.prefills.back()->End(Full());
    ASSERT_THAT(timer_.delays, SizeIs(i + 1));
    EXPECT_GE(timer_.delays.back(), absl::Seconds(3));
    timer_.Fire();
  }
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(RequestDriverTest, ARequestWaitsInTheRoomWhileTheOnlyDecodeWorkerIsFull) {
  Workers({"p:1", "p:2"}, {"d:1"});
  const auto room = std::make_shared<WaitingRoom>(timer_, clock_, RequestQueue::Options{});
  Start(/*max_tokens=*/3, {.waiting_room = room});
  workers_.prefills.back()->Say(Accepted());
  workers_.prefills.back()->End(Full());
  EXPECT_EQ(room->size(), 1u);
}

TEST_F(RequestDriverTest, AnotherDecodeWorkerIsAskedBeforeTheHintOfAFullOneIsWaitedFor) {
  Workers({"p:1"}, {"d:1", "d:2"});
  Start();
  for (int i = 0; i < 2; ++i) {
    workers_.prefills.back()->Say(Accepted());
    workers_.prefills.back()->End(Full());
    timer_.Fire();
  }
  ASSERT_THAT(workers_.prefills, SizeIs(3));
  EXPECT_NE(workers_.prefills[0]->request.decode_address(),
            workers_.prefills[1]->request.decode_address());
  ASSERT_THAT(timer_.delays, SizeIs(2));
  EXPECT_LT(timer_.delays[0], absl::Seconds(1));
  EXPECT_GE(timer_.delays[1], absl::Seconds(3));
}

TEST_F(RequestDriverTest, AMigrationWaitsForTheHintOfAFullDecodeWorker) {
  Workers({"p:1", "p:2"}, {"d:1", "d:2"});
  Start(/*max_tokens=*/4);
  auto& p = *workers_.prefills.at(0);
  const std::string first = p.request.decode_address();
  p.Say(Accepted());
  p.Say(Reserved(first, "R"));
  p.Say(Token(10));
  p.Say(Committed());
  workers_.decodes.at(0)->End(absl::UnavailableError("gone"));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  EXPECT_NE(workers_.prefills[1]->request.decode_address(), first);
  workers_.prefills[1]->Say(Accepted());
  workers_.prefills[1]->End(Full());
  ASSERT_THAT(timer_.delays, SizeIs(2));
  EXPECT_GE(timer_.delays[1], absl::Seconds(3));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(3));
  EXPECT_THAT(workers_.prefills[2]->request.forced_tokens(), ElementsAre(10));
}

TEST_F(RequestDriverTest, AResendThatADecodeWorkerRefusesIsTriedAgain) {
  Workers({"p:1"}, {"d:1", "d:2", "d:3"});
  const std::string first = StartAndLoseTheDecodeWorker();
  for (int i = 0; i < 2; ++i) {
    timer_.Fire();
    ASSERT_THAT(workers_.resends, SizeIs(i + 1));
    workers_.resends[i]->End(Full());
  }
  EXPECT_THAT((std::set<std::string>{first, workers_.resends[0]->request.decode_address(),
                                     workers_.resends[1]->request.decode_address()}),
              SizeIs(3));
  ASSERT_THAT(timer_.delays, SizeIs(3));
  EXPECT_LT(timer_.delays[1], absl::Seconds(1));  // one was left to ask
  EXPECT_GE(timer_.delays[2], absl::Seconds(3));
  timer_.Fire();
  EXPECT_THAT(workers_.resends, SizeIs(3));
  EXPECT_THAT(workers_.prefills, SizeIs(1));
}

TEST_F(RequestDriverTest, ARequestWaitsUntilAWorkerIsBack) {
  Workers({"p:1"}, {"d:1"});
  workers_.SetDown("p:1", true);
  registry_->ReportUnreachable("p:1");
  RequestDriver::Options options;
  Start(3, options);
  for (int i = 0; i < 3 * options.max_attempts; ++i) timer_.Fire();  // these are none
  EXPECT_THAT(workers_.prefills, IsEmpty());
  EXPECT_THAT(events_, IsEmpty());
  workers_.SetDown("p:1", false);
  registry_->Recheck("p:1");
  for (int i = 0; i < 500 && registry_->NumReady(v1::WORKER_ROLE_PREFILL) == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(1));
  EXPECT_EQ(workers_.prefills[0]->request.attempt(), 1u);
}

TEST_F(RequestDriverTest, ARequestThatNoWorkerComesForFails) {
  Workers({"p:1"}, {"d:1"});
  workers_.SetDown("p:1", true);
  registry_->ReportUnreachable("p:1");
  RequestDriver::Options options;
  options.wait_limit.max_wait = absl::ZeroDuration();
  Start(3, options);
  EXPECT_THAT(events_, ElementsAre("failed UNAVAILABLE"));
}

TEST_F(RequestDriverTest, AFullWorkerSaysHowMuchItHasToDo) {
  Workers({"p:1", "p:2"}, {"d:1"});
  Start();
  const std::string full = workers_.prefills.at(0)->address;
  v1::PrefillResponse refused;
  refused.mutable_refused()->mutable_load()->set_tokens(100000);
  workers_.prefills.at(0)->Say(refused);
  workers_.prefills.at(0)->End(absl::ResourceExhaustedError("full"));
  for (int i = 0; i < 4; ++i) EXPECT_NE(registry_->Acquire({10, 10}, {})->prefill_address, full);
}

TEST_F(RequestDriverTest, ARequestWaitsWhileAllWorkersAreFull) {
  Workers({"p:1", "p:2"}, {"d:1"});
  const auto room = std::make_shared<WaitingRoom>(timer_, clock_, RequestQueue::Options{});
  Start(/*max_tokens=*/1, {.waiting_room = room});
  for (int round = 0; round < 5; ++round) {  // more often than it may fail
    for (int i = 0; i < 2; ++i) {            // one worker, then the other
      ASSERT_THAT(workers_.prefills, SizeIs(2 * round + i + 1));
      workers_.prefills.back()->End(absl::ResourceExhaustedError("full"));
      if (i == 0) timer_.Fire();
    }
    EXPECT_EQ(room->size(), 1u);
    timer_.callbacks.clear();  // of the hint and of its own time
    room->OnCapacity();
    timer_.Fire();
  }
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_FALSE(room->MustWait(0));
  workers_.prefills.back()->Say(Accepted());
  workers_.prefills.back()->Say(Token(10));
  workers_.prefills.back()->Say(Committed());
  EXPECT_THAT(events_, ElementsAre("0:10", "finished"));
}

// Prefill workers take it again and again, the decode worker never has room.
TEST_F(RequestDriverTest, ARequestThatIsTakenAndRefusedAgainWaitsNoLongerInAll) {
  Workers({"p:1"}, {"d:1"});
  const RequestQueue::Options options{.wait_limit = {.max_wait = absl::Milliseconds(50)}};
  const auto room = std::make_shared<WaitingRoom>(timer_, clock_, options);
  Start(/*max_tokens=*/3, {.waiting_room = room});
  const absl::Time late = absl::Now() + absl::Seconds(20);
  while (events_.empty() && absl::Now() < late) {
    ASSERT_FALSE(workers_.prefills.empty());
    if (workers_.prefills.back()->ended) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      workers_.prefills.back()->Say(Accepted());
      workers_.prefills.back()->End(absl::ResourceExhaustedError("no blocks"));
    }
    room->OnCapacity();
    timer_.Fire();
  }
  EXPECT_THAT(events_, ElementsAre("failed RESOURCE_EXHAUSTED"));
}

TEST_F(RequestDriverTest, ARequestThatIsCancelledWhileItWaitsLeavesTheRoom) {
  Workers({"p:1"}, {"d:1"});
  const auto room = std::make_shared<WaitingRoom>(timer_, clock_, RequestQueue::Options{});
  Start(/*max_tokens=*/3, {.waiting_room = room});
  workers_.prefills.back()->End(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(room->size(), 1u);
  driver_->Cancel(absl::StatusCode::kCancelled);
  EXPECT_EQ(room->size(), 0u);
  EXPECT_THAT(events_, ElementsAre("failed CANCELLED"));
}

TEST_F(RequestDriverTest, ACancelStopsBothWorkersAndSaysSoOnce) {
  Workers({"p:1"}, {"d:1"});
  Start();
  workers_.prefills.at(0)->Say(Reserved("d:1", "R"));
  workers_.prefills.at(0)->Say(Token(10));
  driver_->Cancel(absl::StatusCode::kCancelled);
  EXPECT_TRUE(workers_.prefills.at(0)->cancelled);
  EXPECT_TRUE(workers_.decodes.at(0)->cancelled);
  EXPECT_THAT(workers_.aborts, ElementsAre("d:1/R"));
  workers_.prefills.at(0)->End(absl::CancelledError(""));
  workers_.decodes.at(0)->End(absl::CancelledError(""));
  EXPECT_THAT(events_, ElementsAre("0:10", "failed CANCELLED"));
}

TEST_F(RequestDriverTest, EnoughFromTheReceiverEndsTheGeneration) {
  Workers({"p:1"}, {"d:1"});
  enough_at_ = 1;
  Start(/*max_tokens=*/9);
  auto& p = *workers_.prefills.at(0);
  p.Say(Reserved("d:1", "R"));
  p.Say(Token(10));
  p.Say(Committed());
  workers_.decodes.at(0)->Say(Decoded(1, 11));
  workers_.decodes.at(0)->Say(Decoded(2, 12));
  EXPECT_THAT(events_, ElementsAre("0:10", "1:11", "finished"));
  EXPECT_TRUE(workers_.decodes.at(0)->cancelled);
}

// The decode worker is lost before the ledger came: the prompt runs again for the ledger alone.
TEST_F(RequestDriverTest, NoTokenFollowsEnoughAlsoWhenTheAttemptIsMadeAgain) {
  Workers({"p:1", "p:2"}, {"d:1"});
  enough_at_ = 0;
  Start(/*max_tokens=*/9);
  workers_.prefills.at(0)->Say(Token(10));
  workers_.prefills.at(0)->End(absl::UnavailableError("gone"));
  timer_.Fire();
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  workers_.prefills.at(1)->Say(Token(10));
  EXPECT_THAT(events_, ElementsAre("0:10"));
  workers_.prefills.at(1)->Say(Committed());
  EXPECT_THAT(events_, ElementsAre("0:10", "finished"));
}

TEST_F(RequestDriverTest, ACancelWaitsForTheTokenThatIsBeingDelivered) {
  Workers({"p:1"}, {"d:1"});
  std::promise<void> delivering, go_on;
  on_token_ = [&] {
    delivering.set_value();
    go_on.get_future().wait();
  };
  Start();
  std::thread worker([this] { workers_.prefills.at(0)->Say(Token(10)); });
  delivering.get_future().wait();
  std::thread client([this] { driver_->Cancel(absl::StatusCode::kCancelled); });
  go_on.set_value();
  client.join();
  worker.join();
  EXPECT_THAT(events_, ElementsAre("0:10", "failed CANCELLED"));
}

// Tokens, the commit, the last word of the receiver and a cancel, all at a time.
TEST_F(RequestDriverTest, WhateverMeetsTheRequestEndsOnceAndLast) {
  Workers({"p:1"}, {"d:1"});
  enough_at_ = 2;
  for (int round = 0; round < 100; ++round) {
    events_.clear();
    Start(/*max_tokens=*/9);
    const auto p = workers_.prefills.back();
    p->Say(Reserved("d:1", "R"));
    p->Say(Token(10));
    const auto d = workers_.decodes.back();
    std::thread prefill([&] { p->Say(Committed()); });
    std::thread decode([&] {
      for (int index = 1; index < 5; ++index) d->Say(Decoded(index, 10 + index));
    });
    std::thread client([this] { driver_->Cancel(absl::StatusCode::kCancelled); });
    prefill.join();
    decode.join();
    client.join();
    ASSERT_THAT(events_.back(), AnyOf("finished", "failed CANCELLED"));
    ASSERT_THAT(std::vector<std::string>(events_.begin(), events_.end() - 1),
                Each(AnyOf("0:10", "1:11", "2:12")));
    ASSERT_THAT(events_, AllOf(SizeIs(Ge(2)), SizeIs(Le(4))));
  }
}

}  // namespace
}  // namespace winnow
