// The front door as any protocol's adapter sees it. The registry knows no worker, so a request that
// runs fails with UNAVAILABLE.
#include "router/front_door.h"

#include <atomic>
#include <cstdio>
#include <fstream>
#include <future>
#include <thread>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/fake_timer.h"
#include "tests/router/fake_workers.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kBearer[] = "Bearer search-0123456789abcdef";
constexpr char kTrace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

class FrontDoorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Create(std::string(WINNOW_SOURCE_DIR) + "/models/demo");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    Open({});
  }
  void Open(const FrontDoor::Options& options) {
    const GenerationParts parts{*tokenizer_, workers_, registry_, clock_, timer_, metrics_};
    door_ = std::make_unique<FrontDoor>(parts, executor_, tokens_.get(), options);
  }
  // Only `search`, who may run one request at a time.
  void OpenForClients() {
    const std::string path = testing::TempDir() + "front-door-clients.json";
    std::ofstream(path) << R"({"clients": [{"name": "search", "token": "search-0123456789abcdef",)"
                        << R"( "max_requests": 1}]})";
    auto loaded = ClientTokens::Load(path, clock_);
    std::remove(path.c_str());
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokens_ = *std::move(loaded);
    Open({.max_running = 2});
  }
  absl::StatusOr<RequestSlot> Admit(int64_t bytes) { return door_->Admit({.bytes = bytes}); }
  absl::StatusOr<RequestSlot> AdmitAs(const std::string& authorization) {
    return door_->Admit({.authorization = authorization});
  }
  // How often requests were turned away for this reason.
  bool WasRejected(const std::string& reason, int times) {
    return metrics_registry_.Serialize().find("reason=\"" + reason + "\"} " +
                                              std::to_string(times)) != std::string::npos;
  }
  static v1::GenerateRequest Ask() {
    v1::GenerateRequest request;
    request.set_raw("hello");
    return request;
  }

  FakeClock clock_;
  FakeWorkers workers_;
  FakeTimer timer_;
  WorkerRegistry registry_{workers_, clock_, {}, {}};
  MetricsRegistry metrics_registry_;
  RouterMetrics metrics_{metrics_registry_};
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ClientTokens> tokens_;
  Executor executor_{"tokenize", 1};
  std::unique_ptr<FrontDoor> door_;
};

TEST_F(FrontDoorTest, WithoutClientTokensEverybodyMayCall) {
  EXPECT_EQ(*door_->Authenticate(""), nullptr);
  const absl::StatusOr<RequestSlot> slot = AdmitAs("");
  ASSERT_TRUE(slot.ok()) << slot.status();
  EXPECT_EQ(slot->client(), nullptr);
}

TEST_F(FrontDoorTest, ACallerWithoutAClientsTokenIsUnauthenticated) {
  OpenForClients();
  for (const char* header : {"", "Bearer another-0123456789abcdef"}) {
    EXPECT_EQ(AdmitAs(header).status().code(), absl::StatusCode::kUnauthenticated) << header;
    EXPECT_EQ(door_->Authenticate(header).status().code(), absl::StatusCode::kUnauthenticated);
  }
  EXPECT_TRUE(WasRejected("unauthenticated", 2));
  EXPECT_EQ(door_->num_running(), 0);
}

TEST_F(FrontDoorTest, AClientRunsAsMuchAsItsTokenAllows) {
  OpenForClients();
  absl::StatusOr<RequestSlot> first = AdmitAs(kBearer);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->client()->name(), "search");
  EXPECT_TRUE(door_->Authenticate(kBearer).ok());  // runs nothing
  const absl::Status refused = AdmitAs(kBearer).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("client 'search'"));
  EXPECT_TRUE(GetRetryAfter(refused).has_value());
  EXPECT_TRUE(WasRejected("client_limit", 1));
  first->Release();
  EXPECT_TRUE(AdmitAs(kBearer).ok());
}

TEST_F(FrontDoorTest, RunningRequestsAreBoundedInNumber) {
  Open({.max_running = 2, .retry_after = absl::Seconds(3)});
  absl::StatusOr<RequestSlot> first = Admit(1);
  const absl::StatusOr<RequestSlot> second = Admit(1);
  EXPECT_EQ(door_->num_running(), 2);
  const absl::Status refused = Admit(1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("runs 2 requests"));
  EXPECT_EQ(GetRetryAfter(refused), absl::Seconds(3));
  EXPECT_TRUE(WasRejected("overload", 1));
  first->Release();
  EXPECT_TRUE(Admit(1).ok());
}

TEST_F(FrontDoorTest, RunningRequestsAreBoundedInBytes) {
  Open({.max_running_bytes = 3000});
  absl::StatusOr<RequestSlot> first = Admit(2000);
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status refused = Admit(1001).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("requests of 2000 bytes, with this one of 1001 it would have more than "
                        "3000"));
  EXPECT_TRUE(Admit(1000).ok());  // its slot ends here
  first->Release();
  EXPECT_TRUE(Admit(3000).ok());
}

TEST_F(FrontDoorTest, ARequestThatTheRouterRefusesIsNotCountedForItsClient) {
  OpenForClients();
  Open({.max_running = 0});
  EXPECT_THAT(std::string(AdmitAs(kBearer).status().message()), HasSubstr("the router runs"));
  Open({});
  EXPECT_TRUE(AdmitAs(kBearer).ok());
}

TEST_F(FrontDoorTest, APassGivesItsSlotsBackOnce) {
  absl::StatusOr<RequestSlot> admitted = Admit(5);
  {
    RequestSlot moved = *std::move(admitted);
    EXPECT_EQ(door_->num_running(), 1);
    moved.Release();
    EXPECT_EQ(door_->num_running(), 0);
    moved.Release();
  }
  EXPECT_EQ(door_->num_running(), 0);
}

TEST_F(FrontDoorTest, ADrainRefusesNewRequestsAndKeepsTheRunningOnes) {
  absl::StatusOr<RequestSlot> running = Admit(1);
  door_->Drain();
  const absl::Status refused = Admit(1).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("draining"));
  EXPECT_TRUE(GetRetryAfter(refused).has_value());
  EXPECT_TRUE(WasRejected("draining", 1));
  EXPECT_EQ(door_->num_running(), 1);
  running->Release();
  EXPECT_EQ(door_->num_running(), 0);
}

TEST_F(FrontDoorTest, TheCallersDeadlineHoldsUpToTheLongest) {
  Open({.default_timeout = absl::Seconds(60)});
  const absl::Time now = clock_.Now();
  const auto deadline_of = [&](Deadline callers) {
    return door_->Admit({.deadline = callers})->deadline().when();
  };
  EXPECT_EQ(deadline_of(Deadline::Infinite()), now + absl::Seconds(60));
  EXPECT_EQ(deadline_of(Deadline::At(now + absl::Seconds(5))), now + absl::Seconds(5));
  EXPECT_EQ(deadline_of(Deadline::At(now + absl::Hours(1))), now + absl::Seconds(60));
}

TEST_F(FrontDoorTest, ARequestHasASpanOfItsOwnInTheCallersTrace) {
  const TraceContext callers = *TraceContext::Parse(kTrace);
  const TraceContext span = FrontDoor::SpanOf(kTrace);
  EXPECT_EQ(span.trace_id, callers.trace_id);
  EXPECT_TRUE(span.sampled);
  EXPECT_NE(span.parent_id, callers.parent_id);
  EXPECT_EQ(door_->Admit({.trace = span})->trace(), span);
}

TEST_F(FrontDoorTest, ACallerWithoutAValidTraceGetsANewOne) {
  const TraceContext one = FrontDoor::SpanOf("");
  const TraceContext other = FrontDoor::SpanOf("00-no-trace-01");
  EXPECT_TRUE(TraceContext::Parse(one.ToString()).has_value());
  EXPECT_TRUE(TraceContext::Parse(other.ToString()).has_value());
  EXPECT_NE(one.trace_id, other.trace_id);
}

TEST_F(FrontDoorTest, ARequestRunsOnTheExecutorAndIsReleasedBeforeItsEndIsTold) {
  std::promise<void> go_on;
  executor_.Add([held = go_on.get_future().share()] { held.wait(); });
  std::promise<absl::Status> end;
  absl::StatusOr<RequestSlot> slot = Admit(5);
  const auto generation = door_->Start(Ask(), *std::move(slot),
                                       {.write = [](v1::GenerateResponse) {},
                                        .finish =
                                            [&](const absl::Status& status) {
                                              EXPECT_EQ(door_->num_running(), 0);
                                              end.set_value(status);
                                            }});
  EXPECT_EQ(door_->num_running(), 1);
  go_on.set_value();
  EXPECT_EQ(end.get_future().get().code(), absl::StatusCode::kUnavailable);
}

TEST_F(FrontDoorTest, ARequestThatIsCancelledBeforeItRunsEndsAsCancelled) {
  std::promise<void> go_on;
  executor_.Add([held = go_on.get_future().share()] { held.wait(); });
  std::promise<absl::Status> end;
  absl::StatusOr<RequestSlot> slot = Admit(5);
  const auto generation =
      door_->Start(Ask(), *std::move(slot),
                   {.write = [](v1::GenerateResponse) {},
                    .finish = [&](const absl::Status& status) { end.set_value(status); }});
  generation->Cancel();
  go_on.set_value();
  EXPECT_EQ(end.get_future().get().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(door_->num_running(), 0);
}

TEST_F(FrontDoorTest, ManyCallersAtATimeNeverRunMoreThanTheLimit) {
  constexpr int kMost = 3;
  Open({.max_running = kMost});
  std::atomic<int> inside{0}, admitted{0}, most{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] {
      for (int call = 0; call < 500; ++call) {
        absl::StatusOr<RequestSlot> slot = Admit(10);
        if (!slot.ok()) continue;
        const int now = ++inside;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        ++admitted;
        --inside;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_LE(most, kMost);
  EXPECT_GE(admitted, kMost);
  EXPECT_EQ(door_->num_running(), 0);
}

TEST_F(FrontDoorTest, AfterADrainNobodyIsLetInHoweverManyCall) {
  std::atomic<bool> drained{false};
  std::atomic<int> late{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (bool open = true; open;) {
        const bool was_drained = drained;
        const absl::StatusOr<RequestSlot> slot = Admit(10);
        if (slot.ok() && was_drained) ++late;
        open = slot.ok();
      }
    });
  }
  door_->Drain();
  drained = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(late, 0);
  EXPECT_EQ(door_->num_running(), 0);
}

// Requests of all kinds of ends at a time: refused, cancelled before or while they run, failed.
TEST_F(FrontDoorTest, EveryStartedRequestEndsOnce) {
  Open({.max_running = 4});
  std::atomic<int> started{0}, ended{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      for (int call = 0; call < 100; ++call) {
        absl::StatusOr<RequestSlot> slot = Admit(10);
        if (!slot.ok()) continue;
        ++started;
        const auto generation = door_->Start(Ask(), *std::move(slot),
                                             {.write = [](v1::GenerateResponse) {},
                                              .finish = [&](const absl::Status&) { ++ended; }});
        if (i % 2 == 0) generation->Cancel();
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  std::promise<void> last;  // behind all of them
  executor_.Add([&] { last.set_value(); });
  last.get_future().wait();
  EXPECT_EQ(ended, started);
  EXPECT_EQ(door_->num_running(), 0);
}

}  // namespace
}  // namespace winnow
