// What NCCL's host side may do to us, without a GPU: calls that stay under way, hang or fail.
#include "engine/comm/nccl_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "engine/comm/rank_group.h"
#include "tests/engine/fake_nccl.h"
#include "worker/nccl_aborts.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Ranks {
  explicit Ranks(int size) : threads(size, nullptr) {
    NcclGroup::Options options{.api = &nccl, .clock = &clock};
    options.on_abort = [this](const absl::Status& reason) { aborts.Count(reason); };
    for (int rank = 0; rank < size; ++rank) options.devices.push_back(rank);
    options.streams.resize(size);
    auto made = NcclGroup::Create(std::move(options));
    EXPECT_TRUE(made.ok()) << made.status();
    group = *std::move(made);
  }
  absl::Status Run(const std::function<absl::Status(Communicator&)>& fn) {
    return threads.Run([&](int rank) { return fn(group->communicator(rank)); });
  }
  Deadline Soon(absl::Duration d = absl::Seconds(60)) const { return Deadline::After(clock, d); }
  // One collective on all ranks; whether it gave the right sum.
  absl::Status Sum() {
    return Run([&](Communicator& comm) -> absl::Status {
      float x[2] = {1.0f + static_cast<float>(comm.rank()), 1.0f};
      if (auto s = comm.AllReduceSum(x, DType::kF32, 2, Soon()); !s.ok()) return s;
      const auto n = static_cast<float>(comm.size());
      EXPECT_THAT(x, ElementsAre(n * (n + 1) / 2, n));
      return absl::OkStatus();
    });
  }

  // What winnow_nccl_aborts_total says, as "late 0, error 0, rank 0".
  std::string CountedAborts() const {
    std::string text;
    for (const char* reason : {"late", "error", "rank"}) {
      const auto& count = registry.Counter("winnow_nccl_aborts_total", "", {{"reason", reason}});
      text += (text.empty() ? "" : ", ") + std::string(reason) + " " +
              std::to_string(static_cast<int>(count.Value()));
    }
    return text;
  }

  mutable MetricsRegistry registry;
  NcclAborts aborts{registry};
  FakeNccl nccl;
  RealClock clock;
  RankGroup threads;
  std::unique_ptr<NcclGroup> group;
};

TEST(NcclCommunicatorTest, ReducesAndGathersOnAnyNumberOfRanks) {
  for (int size : {1, 2, 4, 8}) {
    Ranks ranks(size);
    EXPECT_EQ(ranks.Sum(), absl::OkStatus());
    EXPECT_EQ(ranks.Run([&](Communicator& comm) -> absl::Status {
      float best[2] = {static_cast<float>(comm.rank()), -static_cast<float>(comm.rank())};
      if (auto s = comm.AllReduceMax(best, 2, ranks.Soon()); !s.ok()) return s;
      EXPECT_THAT(best, ElementsAre(static_cast<float>(size - 1), 0.0f));
      const auto mine = static_cast<char>('a' + comm.rank());
      std::string all(size, '?');
      if (auto s = comm.AllGather(&mine, all.data(), 1, ranks.Soon()); !s.ok()) return s;
      EXPECT_EQ(all, std::string("abcdefgh").substr(0, size));
      return absl::OkStatus();
    }),
              absl::OkStatus());
  }
}

TEST(NcclCommunicatorTest, AHangingRankIsADeadlineOnAllAndResetMends) {
  Ranks ranks(4);
  ranks.nccl.Hang(2);
  const absl::Status status = ranks.Run([&](Communicator& comm) {
    float x = 1;
    return comm.AllReduceMax(&x, 1, ranks.Soon(absl::Milliseconds(50)));
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("AllReduceMax"));
  EXPECT_EQ(ranks.nccl.num_aborts, 4);
  EXPECT_EQ(ranks.CountedAborts(), "late 1, error 0, rank 0");
  EXPECT_EQ(ranks.Sum().code(), absl::StatusCode::kDeadlineExceeded);  // broken until Reset
  EXPECT_EQ(ranks.group->Reset(), absl::OkStatus());
  EXPECT_EQ(ranks.Sum(), absl::OkStatus());
  EXPECT_EQ(ranks.CountedAborts(), "late 1, error 0, rank 0");  // a Reset is none
  EXPECT_EQ(ranks.nccl.num_uses_after_abort, 0);
}

TEST(NcclCommunicatorTest, AnAsynchronousErrorStopsEveryRankWithItsText) {
  Ranks ranks(4);
  const absl::Status status = ranks.Run([&](Communicator& comm) {
    float x = 1;
    if (comm.rank() == 3) {
      EXPECT_TRUE(ranks.nccl.WaitForPosted(3));  // the others wait for this rank
      ranks.nccl.Fail("remote process exited");
    }
    return comm.AllReduceMax(&x, 1, ranks.Soon());
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("remote process exited"));
  EXPECT_EQ(ranks.CountedAborts(), "late 0, error 1, rank 0");
  EXPECT_EQ(ranks.nccl.num_aborts, 4);
  EXPECT_EQ(ranks.nccl.num_uses_after_abort, 0);
}

TEST(NcclCommunicatorTest, AnAbortFromOutsideWakesAllRanks) {
  Ranks ranks(3);
  const absl::Status status = ranks.Run([&](Communicator& comm) {
    if (comm.rank() == 0) {
      EXPECT_TRUE(ranks.nccl.WaitForPosted(2));
      comm.Abort(absl::CancelledError("the client left"));
      return absl::OkStatus();
    }
    float x = 1;
    return comm.AllReduceMax(&x, 1, ranks.Soon());
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the client left"));
  EXPECT_EQ(ranks.CountedAborts(), "late 0, error 0, rank 1");
  EXPECT_EQ(ranks.Sum().code(), absl::StatusCode::kAborted);  // broken until Reset
  EXPECT_EQ(ranks.group->Reset(), absl::OkStatus());
  EXPECT_EQ(ranks.Sum(), absl::OkStatus());
}

TEST(NcclCommunicatorTest, AbortsAndErrorsAtOnceAbortEachCommunicatorOnce) {
  for (int round = 0; round < 50; ++round) {
    Ranks ranks(4);
    EXPECT_FALSE(ranks
                     .Run([&](Communicator& comm) {
                       if (comm.rank() % 2 == 0) comm.Abort(absl::CancelledError("no more"));
                       ranks.nccl.Fail("link down");
                       float x = 1;
                       return comm.AllReduceMax(&x, 1, ranks.Soon());
                     })
                     .ok());
    EXPECT_EQ(ranks.nccl.num_aborts, 4);
    EXPECT_EQ(ranks.nccl.num_uses_after_abort, 0);
  }
}

TEST(NcclCommunicatorTest, AnInitThatFailsOrHangsIsAnErrorNotAWait) {
  RealClock clock;
  FakeNccl nccl;
  NcclGroup::Options options{.api = &nccl,
                             .clock = &clock,
                             .devices = {0, 1},
                             .streams = {nullptr, nullptr},
                             .init_timeout = absl::Milliseconds(30)};
  nccl.init_error = "no NVLink";
  EXPECT_EQ(NcclGroup::Create(options).status(), absl::InternalError("no NVLink"));
  nccl.init_error.clear();
  nccl.init_hangs = true;
  EXPECT_EQ(NcclGroup::Create(options).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(nccl.num_aborts, 2);
}

TEST(NcclCommunicatorTest, RefusesTwoRanksOnOneDevice) {
  RealClock clock;
  FakeNccl nccl;
  const auto refused = NcclGroup::Create(
      {.api = &nccl, .clock = &clock, .devices = {0, 0}, .streams = {nullptr, nullptr}});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(nccl.num_inits, 0);
}

}  // namespace
}  // namespace winnow
