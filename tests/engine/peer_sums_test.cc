#include "engine/comm/peer_sums.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "common/clock.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/rank_group.h"
#include "tests/engine/host_copies.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;
using Sum = Communicator::Sum;

struct Ranks {
  explicit Ranks(int size)
      : copies(new HostCopies),
        group(std::make_unique<LocalGroup>(size, clock), std::unique_ptr<PeerCopies>(copies), size,
              /*min_overlap_elements=*/100, clock),
        threads(size, nullptr) {}

  absl::Status Run(const std::function<absl::Status(Communicator&)>& fn) {
    return threads.Run([&](int rank) { return fn(group.communicator(rank)); },
                       [&](const absl::Status& error) { group.communicator(0).Abort(error); });
  }
  Deadline Soon(absl::Duration d = absl::Seconds(60)) const { return Deadline::After(clock, d); }

  RealClock clock;
  HostCopies* copies;  // of the group
  PeerSums group;
  RankGroup threads;
};

// One rank's part of a sum.
struct Part {
  Part(int rank, int index, int64_t count, int size) : data(count), inbox(count * (size - 1)) {
    std::mt19937 random(100 * index + rank);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (float& x : data) x = uniform(random);
  }
  Sum sum() {
    return {.data = data.data(),
            .inbox = inbox.data(),
            .dtype = DType::kF32,
            .count = static_cast<int64_t>(data.size())};
  }
  std::vector<float> data, inbox;
};

// Joins a part; its addends must be every rank's, in the order of ranks.
absl::Status Join(Communicator& comm, Part& part, int index, Deadline deadline) {
  const absl::StatusOr<Addends> addends = comm.JoinSum(part.sum(), deadline);
  if (!addends.ok()) return addends.status();
  EXPECT_EQ(addends->count, comm.size());
  const auto count = static_cast<int64_t>(part.data.size());
  for (int rank = 0; rank < addends->count; ++rank) {
    const auto* got = static_cast<const float*>(addends->data[rank]);
    EXPECT_EQ(std::vector<float>(got, got + count), Part(rank, index, count, 1).data)
        << "of rank " << rank << " on " << comm.rank();
  }
  return absl::OkStatus();
}

TEST(PeerSumsTest, EveryRankGetsAllPartsInOrderTwoSumsAtATime) {
  for (const int size : {2, 3, 4}) {
    Ranks ranks(size);
    EXPECT_EQ(ranks.Run([&](Communicator& comm) -> absl::Status {
      EXPECT_EQ(comm.min_overlap_elements(), 100);
      std::optional<Part> before;
      for (int i = 0; i < 200; ++i) {
        Part part(comm.rank(), i, 1 + i * 7 % 50, size);
        if (absl::Status s = comm.BeginSum(part.sum(), ranks.Soon()); !s.ok()) return s;
        if (before) {
          if (absl::Status s = Join(comm, *before, i - 1, ranks.Soon()); !s.ok()) return s;
        }
        before = std::move(part);
      }
      return Join(comm, *before, 199, ranks.Soon());
    }),
              absl::OkStatus());
  }
}

TEST(PeerSumsTest, TheRestIsTheInnerGroups) {
  Ranks ranks(2);
  EXPECT_EQ(ranks.Run([&](Communicator& comm) -> absl::Status {
    float x = static_cast<float>(comm.rank() + 1);
    if (auto s = comm.AllReduceSum(&x, DType::kF32, 1, ranks.Soon()); !s.ok()) return s;
    EXPECT_EQ(x, 3.0f);
    return absl::OkStatus();
  }),
            absl::OkStatus());
}

TEST(PeerSumsTest, ARankThatStaysAwayIsADeadlineAndResetMends) {
  Ranks ranks(3);
  const auto begin_and_join = [&](Communicator& comm, Deadline deadline) -> absl::Status {
    Part part(comm.rank(), 0, 5, 3);
    if (absl::Status s = comm.BeginSum(part.sum(), deadline); !s.ok()) return s;
    return Join(comm, part, 0, deadline);
  };
  const absl::Status late = ranks.Run([&](Communicator& comm) {
    if (comm.rank() == 1) return absl::OkStatus();
    return begin_and_join(comm, ranks.Soon(absl::Milliseconds(50)));
  });
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  EXPECT_THAT(std::string(late.message()), HasSubstr("for rank 1"));
  const auto again = [&] {
    return ranks.Run([&](Communicator& comm) { return begin_and_join(comm, ranks.Soon()); });
  };
  EXPECT_FALSE(again().ok());  // broken until Reset
  ranks.copies->Forget();
  ASSERT_EQ(ranks.group.Reset(), absl::OkStatus());
  EXPECT_EQ(again(), absl::OkStatus());
}

TEST(PeerSumsTest, AFailingRankWakesTheOthers) {
  Ranks ranks(4);
  const absl::Status failed = ranks.Run([&](Communicator& comm) -> absl::Status {
    if (comm.rank() == 3) return absl::DataLossError("rank 3 is broken");
    Part part(comm.rank(), 0, 5, 4);
    return comm.BeginSum(part.sum(), Deadline::Infinite());
  });
  EXPECT_THAT(std::string(failed.message()), HasSubstr("rank 3 is broken"));
}

TEST(PeerSumsTest, RanksThatDisagreeAllFail) {
  Ranks ranks(2);
  const absl::Status status = ranks.Run([&](Communicator& comm) -> absl::Status {
    Part part(comm.rank(), 0, 5 + comm.rank(), 2);
    return comm.BeginSum(part.sum(), ranks.Soon());
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rank 1 begins f32 x 6"));
}

}  // namespace
}  // namespace winnow
