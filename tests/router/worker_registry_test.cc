#include "router/worker_registry.h"

#include <atomic>
#include <functional>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/load_estimate.h"
#include "tests/router/fake_worker_source.h"
#include "tests/router/fake_workers.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

bool WaitUntil(const std::function<bool()>& done) {
  for (int i = 0; i < 2000 && !done(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return done();
}

class WorkerRegistryTest : public ::testing::Test {
 protected:
  WorkerRegistry& Start(absl::Duration poll_period = absl::Hours(1)) {
    return Start(clock_, {.poll_period = poll_period,
                          .first_retry = absl::Milliseconds(1),
                          .longest_retry = poll_period,
                          .source_period = absl::Milliseconds(1)});
  }
  WorkerRegistry& Start(const Clock& clock, const WorkerRegistry::Options& options) {
    registry_ = std::make_unique<WorkerRegistry>(
        workers_, clock, std::vector<const WorkerSource*>{&source_, &other_source_}, options);
    return *registry_;
  }
  bool WaitForReady(int prefill, int decode) {
    return WaitUntil([&] {
      return registry_->NumReady(v1::WORKER_ROLE_PREFILL) == prefill &&
             registry_->NumReady(v1::WORKER_ROLE_DECODE) == decode;
    });
  }

  int NumDraining() { return registry_->Count(v1::WORKER_ROLE_PREFILL).draining; }

  RealClock clock_;
  FakeClock fake_clock_;
  FakeWorkers workers_;
  FakeWorkerSource source_{{"p:1", "p:2"}, {"d:1"}};
  FakeWorkerSource other_source_;
  std::unique_ptr<WorkerRegistry> registry_;
};

TEST_F(WorkerRegistryTest, AWorkerThatIsDownIsAskedAgainUntilItAnswers) {
  workers_.SetDown("p:2", true);
  WorkerRegistry& registry = Start(absl::Milliseconds(20));
  ASSERT_TRUE(WaitForReady(1, 1));
  EXPECT_EQ(registry.Count(v1::WORKER_ROLE_PREFILL).unreachable, 1);
  EXPECT_EQ(registry.Workers().size(), 2u);
  workers_.SetDown("p:2", false);
  EXPECT_TRUE(WaitForReady(2, 1));
}

TEST_F(WorkerRegistryTest, AReportTakesAWorkerOutUntilAPollSucceeds) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  workers_.SetDown("p:1", true);
  registry.ReportUnreachable("p:1");
  ASSERT_TRUE(WaitForReady(1, 1));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(registry.Acquire({10, 10}, {})->prefill_address, "p:2");
  }
  workers_.SetDown("p:1", false);
  registry.Recheck("p:1");
  EXPECT_TRUE(WaitForReady(2, 1));
}

TEST_F(WorkerRegistryTest, AWorkerThatAnswersPollsButFailsRequestsIsTriedByOneAtATime) {
  const WorkerRegistry::Options options{.poll_period = absl::Hours(1)};
  Start(fake_clock_, options);
  ASSERT_TRUE(WaitForReady(2, 1));
  for (int i = 0; i < options.breaker.min_failures; ++i) registry_->ReportFailure("p:1");
  EXPECT_EQ(registry_->Count(v1::WORKER_ROLE_PREFILL).failing, 1);
  EXPECT_EQ(registry_->NumReady(v1::WORKER_ROLE_PREFILL), 2);
  const auto place = [&] { return registry_->Acquire({10, 10}, {})->prefill_address; };
  for (int i = 0; i < 4; ++i) EXPECT_EQ(place(), "p:2");
  fake_clock_.Advance(options.breaker.first_pause);
  EXPECT_EQ(place(), "p:1");  // the trial; it has less to do
  for (int i = 0; i < 4; ++i) EXPECT_EQ(place(), "p:2");
  registry_->ReportSuccess("p:1");
  EXPECT_EQ(registry_->Count(v1::WORKER_ROLE_PREFILL).failing, 0);
  EXPECT_EQ(place(), "p:1");
}

TEST_F(WorkerRegistryTest, ARestartedWorkerHasNothingHeldAgainstIt) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  for (int i = 0; i < 3; ++i) registry.ReportFailure("p:1");
  EXPECT_EQ(registry.Count(v1::WORKER_ROLE_PREFILL).failing, 1);
  registry.Recheck("p:1");  // the same process: its polls change nothing
  ASSERT_TRUE(WaitUntil([this] { return workers_.num_polls("p:1") >= 2; }));
  EXPECT_EQ(registry.Count(v1::WORKER_ROLE_PREFILL).failing, 1);
  workers_.SetIncarnation(8);
  registry.Recheck("p:1");
  EXPECT_TRUE(WaitUntil([&] { return registry.Count(v1::WORKER_ROLE_PREFILL).failing == 0; }));
}

TEST_F(WorkerRegistryTest, AWorkerThatAppearsGetsWork) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  source_.Set({"p:1", "p:2", "p:3"}, {"d:1"});
  ASSERT_TRUE(WaitForReady(3, 1));
  std::set<std::string> chosen;
  for (int i = 0; i < 3; ++i) chosen.insert(registry.Acquire({10, 10}, {})->prefill_address);
  EXPECT_EQ(chosen, (std::set<std::string>{"p:1", "p:2", "p:3"}));
}

TEST_F(WorkerRegistryTest, AWorkerIsKnownWhileAnySourceNamesIt) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  other_source_.Set({"p:2", "p:3"}, {});
  ASSERT_TRUE(WaitForReady(3, 1));
  source_.Set({}, {"d:1"});
  ASSERT_TRUE(WaitForReady(2, 1));
  std::set<std::string> chosen;
  for (int i = 0; i < 2; ++i) chosen.insert(registry.Acquire({10, 10}, {})->prefill_address);
  EXPECT_EQ(chosen, (std::set<std::string>{"p:2", "p:3"}));
}

TEST_F(WorkerRegistryTest, SourcesAreAskedAgainAndAgainWhileAllWorkersAreDown) {
  for (const char* address : {"p:1", "p:2", "d:1"}) workers_.SetDown(address, true);
  Start();
  ASSERT_TRUE(
      WaitUntil([&] { return registry_->Count(v1::WORKER_ROLE_PREFILL).unreachable == 2; }));
  source_.Set({"p:3"}, {"d:2"});
  EXPECT_TRUE(WaitForReady(1, 1));
}

// Its clock may be gone by then.
TEST_F(WorkerRegistryTest, APollThatIsAnsweredAfterTheEndAsksNoClock) {
  class WatchedClock final : public Clock {
   public:
    absl::Time Now() const override {
      ++asked;
      return absl::UnixEpoch();
    }
    mutable std::atomic<int> asked{0};
  };
  WatchedClock clock;
  workers_.HoldPolls();
  Start(clock, {});
  ASSERT_TRUE(WaitUntil([&] { return workers_.num_held_polls() == 3; }));
  registry_.reset();
  clock.asked = 0;
  workers_.AnswerPolls();
  EXPECT_EQ(clock.asked, 0);
}

TEST_F(WorkerRegistryTest, AWorkerThatVanishesGetsNoNewWorkAndIsForgottenAfterItsLast) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  const WorkerRegistry::Work work{.prefill_tokens = 10, .decode_tokens = 10};
  absl::StatusOr<Placement> running = registry.Acquire(work, {.only_prefill = "p:1"});
  ASSERT_TRUE(running.ok());
  source_.Set({"p:2"}, {"d:1"});
  ASSERT_TRUE(WaitUntil([&] { return NumDraining() == 1; }));
  EXPECT_EQ(registry.Count(v1::WORKER_ROLE_PREFILL).ready, 1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(registry.Acquire(work, {})->prefill_address, "p:2");
  EXPECT_FALSE(registry.HasOther(v1::WORKER_ROLE_PREFILL, {"p:2"}));
  EXPECT_TRUE(registry.HasOther(v1::WORKER_ROLE_DECODE, {"p:2"}));
  EXPECT_THAT(workers_.forgotten(), ::testing::IsEmpty());
  registry.ReleasePrefill(*running, work, /*was_accepted=*/false);
  EXPECT_TRUE(WaitUntil([&] { return NumDraining() == 0; }));
  EXPECT_TRUE(WaitUntil([&] { return !workers_.forgotten().empty(); }));
  EXPECT_THAT(workers_.forgotten(), ::testing::ElementsAre("p:1"));
}

TEST_F(WorkerRegistryTest, AWorkerThatReturnsWhileItDrainsGoesOnAsBefore) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  const WorkerRegistry::Work work{.prefill_tokens = 10, .decode_tokens = 10};
  ASSERT_TRUE(registry.Acquire(work, {.only_prefill = "p:1"}).ok());
  source_.Set({"p:2"}, {"d:1"});
  ASSERT_TRUE(WaitUntil([&] { return NumDraining() == 1; }));
  source_.Set({"p:1", "p:2"}, {"d:1"});
  ASSERT_TRUE(WaitUntil([&] { return NumDraining() == 0; }));
  EXPECT_EQ(registry.NumReady(v1::WORKER_ROLE_PREFILL), 2);  // at once, without a poll
  EXPECT_EQ(workers_.num_polls("p:1"), 1);
  EXPECT_EQ(registry.Acquire(work, {})->prefill_address, "p:2");  // its work is still counted
  EXPECT_THAT(workers_.forgotten(), ::testing::IsEmpty());
}

TEST_F(WorkerRegistryTest, WorkIsCountedUntilItIsReleased) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  const WorkerRegistry::Work large{.prefill_tokens = 1000, .decode_tokens = 1000};
  const WorkerRegistry::Work small{.prefill_tokens = 1, .decode_tokens = 1};
  const absl::StatusOr<Placement> first = registry.Acquire(large, {});
  ASSERT_TRUE(first.ok());
  for (int i = 0; i < 4; ++i) {
    EXPECT_NE(registry.Acquire(small, {})->prefill_address, first->prefill_address);
  }
  registry.ReleasePrefill(*first, large, /*was_accepted=*/false);
  EXPECT_EQ(registry.Acquire(small, {})->prefill_address, first->prefill_address);
}

v1::WorkerLoad Load(int64_t tokens, double seconds) {
  v1::WorkerLoad load;
  load.set_tokens(tokens);
  load.set_seconds(seconds);
  return load;
}

TEST_F(WorkerRegistryTest, WorkOfOtherRoutersCountsAsTheWorkerTellsIt) {
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 1));
  const WorkerRegistry::Work small{.prefill_tokens = 1, .decode_tokens = 1};
  registry.OnLoad("p:1", Load(1000, 0));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(registry.Acquire(small, {})->prefill_address, "p:2");
  v1::Accepted accepted;
  *accepted.mutable_load() = Load(5000, 0);
  registry.OnAccepted(*registry.Acquire(small, {}), small, accepted);
  EXPECT_EQ(registry.Acquire(small, {})->prefill_address, "p:1");
}

TEST(LoadEstimateTest, AWorkerWorksOnBetweenItsWords) {
  const absl::Time now = absl::UnixEpoch();
  LoadEstimate load;
  EXPECT_FALSE(load.is_known());
  load.OnReport(Load(1000, 2), now);
  EXPECT_EQ(load.TokensAt(now), 1000);
  EXPECT_EQ(load.TokensAt(now + absl::Seconds(1)), 500);
  EXPECT_EQ(load.TokensAt(now + absl::Seconds(9)), 0);
  load.OnReport(Load(0, 0), now);  // idle: its rate is still known
  load.OnReport(Load(600, 0), now);
  EXPECT_EQ(load.TokensAt(now + absl::Seconds(1)), 100);
}

TEST_F(WorkerRegistryTest, TheModelIsKnownFromTheFirstAnswerOnWithTheSmallestContext) {
  workers_.SetDown("p:1", true);
  workers_.SetDown("p:2", true);
  v1::WorkerInfo model;
  model.set_max_context(4096);
  model.set_vocab_size(100);
  workers_.SetModel(model);
  WorkerRegistry& registry = Start(absl::Milliseconds(20));
  ASSERT_TRUE(WaitForReady(0, 1));
  EXPECT_EQ(registry.Model().status().code(), absl::StatusCode::kUnavailable);
  workers_.SetDown("p:1", false);
  ASSERT_TRUE(WaitForReady(1, 1));
  EXPECT_EQ(registry.Model()->max_context(), 4096);
  model.set_max_context(1024);  // a smaller decode worker takes the place
  workers_.SetModel(model);
  EXPECT_TRUE(WaitUntil([&] { return registry.Model()->max_context() == 1024; }));
}

TEST_F(WorkerRegistryTest, SaysWhoIsMissing) {
  workers_.SetDown("d:1", true);
  WorkerRegistry& registry = Start();
  ASSERT_TRUE(WaitForReady(2, 0));
  EXPECT_THAT(std::string(registry.Acquire({1, 1}, {}).status().message()),
              HasSubstr("no decode worker is ready: 1 known, the first is d:1"));
  EXPECT_TRUE(registry.Acquire({1, 1}, {.needs_decode = false}).ok());
}

}  // namespace
}  // namespace winnow
