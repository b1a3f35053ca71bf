#include "prefill_worker/grpc_kv_handoff.h"

#include <cstdlib>
#include <future>
#include <memory>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plan/selection_config.h"
#include "prefill_worker/grpc_kv_handoff_factory.h"
#include "tests/prefill_worker/fake_decode_worker.h"
#include "tests/prefill_worker/fake_event.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

// Handoffs by a clock that the tests move. How KV arrives is in
// tests/decode_worker/kv_transfer_test.cc.

using Summary = absl::StatusOr<KvHandoff::Summary>;

constexpr absl::Duration kEventTimeout = absl::Seconds(120);
constexpr absl::Duration kPause = absl::Milliseconds(20);  // before the second commit

// One layer of one head.
KvPlan OneLayer() {
  const ModelShape shape{.num_layers = 1,
                         .hidden = 8,
                         .num_q_heads = 1,
                         .num_kv_heads = 1,
                         .head_dim = 4,
                         .intermediate = 8,
                         .vocab_size = 10,
                         .max_context = 100};
  SelectionConfig full;
  full.policy = &kFullPolicy;
  return MakePrefillPlan(shape, full, 10).kv;
}

class GrpcKvHandoffTest : public ::testing::Test {
 protected:
  // A handoff whose streams are open.
  struct Opened {
    std::shared_ptr<KvHandoff> handoff;
    KvSink* sink = nullptr;
    std::future<Summary> Commit() {
      auto done = std::make_shared<std::promise<Summary>>();
      handoff->Commit({1}, {}, [done](Summary summary) { done->set_value(std::move(summary)); });
      return done->get_future();
    }
  };
  Opened Open(Deadline deadline = Deadline::Infinite()) {
    Opened opened;
    opened.handoff = handoffs_.Create(
        {.request_id = "request", .decode_address = decode_.address(), .deadline = deadline});
    auto granted = std::make_shared<std::promise<absl::Status>>();
    opened.handoff->Reserve(plan_, /*max_tokens=*/2,
                            [granted](const auto& grant) { granted->set_value(grant.status()); });
    EXPECT_EQ(granted->get_future().get(), absl::OkStatus());
    auto staging = std::make_shared<KvStaging>();
    staging->plan = plan_;
    KvStaging::Rank rank{.heads = {.kv_count = 1, .q_count = 1}, .layout = KvLayout(plan_, 1, 2)};
    const int64_t bytes = rank.layout.total_bytes();
    rank.memory = Buffer(std::calloc(bytes, 1), bytes, [](void* p) { std::free(p); });
    staging->ranks.push_back(std::move(rank));
    opened.sink = opened.handoff->Open(std::move(staging));
    return opened;
  }
  KvReady WholeLayer() const { return {.slot_end = plan_.entries(0)}; }
  // Moves the clock in small steps until `name` was called `count` times.
  std::vector<absl::Time> AdvanceUntilCalls(const std::string& name, size_t count) {
    for (int steps = 0; steps < 5000; ++steps) {
      const auto calls = decode_.AwaitCalls(name, count, std::chrono::milliseconds(1));
      if (calls.size() >= count) return calls;
      clock_.Advance(absl::Milliseconds(1));
    }
    ADD_FAILURE() << "too few calls of " << name;
    return std::vector<absl::Time>(count);
  }

  const KvPlan plan_ = OneLayer();
  FakeClock clock_;
  FakeDecodeWorker decode_{clock_};
  GrpcKvHandoffFactory handoffs_{{.incarnation = 5,
                                  .layout_digest = "layout",
                                  .event_timeout = kEventTimeout,
                                  .commit_backoff = {.first = kPause},
                                  .clock = &clock_}};
};

TEST_F(GrpcKvHandoffTest, ACommitWaitsForThePartsThatWaitForTheirEvents) {
  Opened opened = Open();
  const auto event = std::make_shared<FakeEvent>();
  opened.sink->OnKvReady(WholeLayer(), event);
  std::future<Summary> committed = opened.Commit();
  EXPECT_EQ(committed.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  event->SetDone();
  const Summary summary = committed.get();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->kv_payload_bytes, plan_.payload_bytes(/*element_bytes=*/2));
}

TEST_F(GrpcKvHandoffTest, AnEventThatNeverFiresHoldsUpNoOtherCommitAndFailsItsOwnInTime) {
  Opened stuck = Open(), other = Open();
  stuck.sink->OnKvReady(WholeLayer(), std::make_shared<FakeEvent>());
  std::future<Summary> stuck_commit = stuck.Commit();
  other.sink->OnKvReady(WholeLayer(), nullptr);
  EXPECT_TRUE(other.Commit().get().ok());
  EXPECT_EQ(stuck_commit.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  clock_.Advance(kEventTimeout);  // long before the request's own deadline
  EXPECT_EQ(stuck_commit.get().status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(GrpcKvHandoffTest, ADevicesErrorFailsTheCommit) {
  Opened opened = Open();
  const auto event = std::make_shared<FakeEvent>();
  opened.sink->OnKvReady(WholeLayer(), event);
  std::future<Summary> committed = opened.Commit();
  event->SetDone(absl::InternalError("an illegal address"));
  EXPECT_EQ(committed.get().status(), absl::InternalError("an illegal address"));
}

TEST_F(GrpcKvHandoffTest, ACommitIsTriedAgainWithPausesThatDouble) {
  decode_.FailCommits(2);
  Opened opened = Open();
  std::future<Summary> committed = opened.Commit();
  const std::vector<absl::Time> tries = AdvanceUntilCalls("commit", 3);
  EXPECT_GE(tries[1] - tries[0], kPause);
  EXPECT_GE(tries[2] - tries[1], 2 * kPause);
  EXPECT_TRUE(committed.get().ok());
}

TEST_F(GrpcKvHandoffTest, ACommitIsTriedThreeTimes) {
  decode_.FailCommits(4);
  Opened opened = Open();
  std::future<Summary> committed = opened.Commit();
  AdvanceUntilCalls("commit", 3);
  EXPECT_EQ(committed.get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(decode_.AwaitCalls("commit", 3).size(), 3u);
}

TEST_F(GrpcKvHandoffTest, ACommitIsNotTriedAgainAfterTheRequestsDeadline) {
  constexpr absl::Duration kTime = absl::Seconds(10);
  decode_.FailCommits(1);
  decode_.on_commit = [this] { clock_.Advance(kTime - absl::Milliseconds(1)); };
  Opened opened = Open(Deadline::After(clock_, kTime));
  EXPECT_EQ(opened.Commit().get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(decode_.AwaitCalls("commit", 1).size(), 1u);
}

TEST_F(GrpcKvHandoffTest, AHandoffThatIsDroppedBetweenTwoTriesCommitsNoMore) {
  decode_.FailCommits(1);
  Opened opened = Open();
  std::future<Summary> committed = opened.Commit();
  decode_.AwaitCalls("commit", 1);
  opened.handoff.reset();
  decode_.AwaitCalls("abort", 1);
  while (committed.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    clock_.Advance(absl::Milliseconds(1));
  }
  EXPECT_EQ(committed.get().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(decode_.AwaitCalls("commit", 1).size(), 1u);
}

TEST_F(GrpcKvHandoffTest, ALeaseIsRenewedEveryThirdOfItsTimeUntilItEnds) {
  const absl::Time begin = clock_.Now();
  Opened opened = Open();
  clock_.Advance(absl::Seconds(20) / 3);
  EXPECT_GE(decode_.AwaitCalls("renew", 1).at(0) - begin, absl::Seconds(20) / 3);
  EXPECT_TRUE(opened.Commit().get().ok());
  const size_t renewals = decode_.AwaitCalls("renew", 1).size();
  clock_.Advance(absl::Seconds(20));
  EXPECT_TRUE(Open().Commit().get().ok());  // comes after everything that was due
  EXPECT_EQ(decode_.AwaitCalls("renew", 1).size(), renewals);
}

}  // namespace
}  // namespace winnow
