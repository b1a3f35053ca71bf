#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "engine/comm/local_communicator.h"
#include "engine/comm/rank_group.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

// A group with its threads on the real clock.
struct Ranks {
  explicit Ranks(int size) : group(size, clock), threads(size, nullptr) {}

  absl::Status Run(const std::function<absl::Status(Communicator&)>& fn) {
    return threads.Run([&](int rank) { return fn(group.communicator(rank)); });
  }
  Deadline Soon(absl::Duration d = kLong) const { return Deadline::After(clock, d); }

  RealClock clock;
  LocalGroup group;
  RankGroup threads;
};

// Inputs of one rank, in [−1, 1).
std::vector<float> RandomFloats(int rank, int64_t count) {
  std::mt19937 random(1000 + rank);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> out(count);
  for (float& x : out) x = uniform(random);
  return out;
}

std::vector<Bf16> ToBf16s(const std::vector<float>& in) {
  std::vector<Bf16> out;
  for (float x : in) out.push_back(ToBf16(x));
  return out;
}

const int kSizes[] = {1, 2, 4, 8};
const int64_t kCounts[] = {0, 1, 3, 255, 256, 257, 511, 1024, 4097, 100'003};

TEST(LocalCommunicatorTest, SumsFloatsInRankOrderOnEveryRank) {
  for (int size : kSizes) {
    Ranks ranks(size);
    for (int64_t count : kCounts) {
      std::vector<float> expected = RandomFloats(0, count);
      for (int rank = 1; rank < size; ++rank) {
        const std::vector<float> in = RandomFloats(rank, count);
        for (int64_t i = 0; i < count; ++i) expected[i] += in[i];
      }
      std::vector<std::vector<float>> got(size);
      ASSERT_EQ(ranks.Run([&](Communicator& comm) {
        std::vector<float>& mine = got[comm.rank()] = RandomFloats(comm.rank(), count);
        return comm.AllReduceSum(mine.data(), DType::kF32, count, ranks.Soon());
      }),
                absl::OkStatus());
      for (int rank = 0; rank < size; ++rank)
        EXPECT_EQ(got[rank], expected) << size << " ranks, " << count;
    }
  }
}

TEST(LocalCommunicatorTest, SumsBf16InFloatAndRoundsOnce) {
  for (int size : kSizes) {
    Ranks ranks(size);
    for (int64_t count : kCounts) {
      std::vector<float> sum(count, 0.0f);
      for (int rank = 0; rank < size; ++rank) {
        const std::vector<Bf16> in = ToBf16s(RandomFloats(rank, count));
        for (int64_t i = 0; i < count; ++i) sum[i] += ToFloat(in[i]);
      }
      std::vector<std::vector<Bf16>> got(size);
      ASSERT_EQ(ranks.Run([&](Communicator& comm) {
        std::vector<Bf16>& mine = got[comm.rank()] = ToBf16s(RandomFloats(comm.rank(), count));
        return comm.AllReduceSum(mine.data(), DType::kBf16, count, ranks.Soon());
      }),
                absl::OkStatus());
      for (int rank = 0; rank < size; ++rank) {
        for (int64_t i = 0; i < count; ++i)
          ASSERT_EQ(got[rank][i].bits, ToBf16(sum[i]).bits) << rank << " " << i;
      }
    }
  }
}

TEST(LocalCommunicatorTest, MaximumIsExact) {
  for (int size : kSizes) {
    Ranks ranks(size);
    for (int64_t count : kCounts) {
      std::vector<float> expected(count, -std::numeric_limits<float>::infinity());
      for (int rank = 0; rank < size; ++rank) {
        const std::vector<float> in = RandomFloats(rank, count);
        for (int64_t i = 0; i < count; ++i) expected[i] = std::max(expected[i], in[i]);
      }
      std::vector<std::vector<float>> got(size);
      ASSERT_EQ(ranks.Run([&](Communicator& comm) {
        std::vector<float>& mine = got[comm.rank()] = RandomFloats(comm.rank(), count);
        return comm.AllReduceMax(mine.data(), count, ranks.Soon());
      }),
                absl::OkStatus());
      for (int rank = 0; rank < size; ++rank)
        EXPECT_EQ(got[rank], expected) << size << " ranks, " << count;
    }
  }
}

TEST(LocalCommunicatorTest, GathersInRankOrderAlsoInPlace) {
  for (int size : kSizes) {
    Ranks ranks(size);
    for (int64_t bytes : {0, 1, 7, 4096}) {
      std::string expected;
      for (int rank = 0; rank < size; ++rank)
        expected += std::string(bytes, static_cast<char>('a' + rank));
      ASSERT_EQ(ranks.Run([&](Communicator& comm) {
        const std::string in(bytes, static_cast<char>('a' + comm.rank()));
        std::string out(bytes * size, '?');
        absl::Status status = comm.AllGather(in.data(), out.data(), bytes, ranks.Soon());
        EXPECT_EQ(out, expected);
        if (!status.ok()) return status;
        std::string in_place(bytes * size, '?');
        char* mine = in_place.data() + comm.rank() * bytes;
        std::memcpy(mine, in.data(), bytes);
        status = comm.AllGather(mine, in_place.data(), bytes, ranks.Soon());
        EXPECT_EQ(in_place, expected);
        return status;
      }),
                absl::OkStatus());
    }
  }
}

TEST(LocalCommunicatorTest, ManyCollectivesInARowStayInStep) {
  Ranks ranks(4);
  EXPECT_EQ(ranks.Run([&](Communicator& comm) {
    for (int i = 0; i < 2000; ++i) {
      float x = static_cast<float>(comm.rank() + i);
      absl::Status status = comm.AllReduceSum(&x, DType::kF32, 1, ranks.Soon());
      if (status.ok() && x != 4.0f * i + 6.0f) status = absl::InternalError("wrong sum");
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }),
            absl::OkStatus());
}

TEST(LocalCommunicatorTest, AFailingRankWakesItsPeersAtOnce) {
  Ranks ranks(4);
  std::vector<absl::Status> seen(4);
  const auto start = std::chrono::steady_clock::now();
  const absl::Status result = ranks.threads.Run(
      [&](int rank) {
        if (rank == 2) return absl::ResourceExhaustedError("rank 2: out of memory");
        float x = 0;
        return seen[rank] = ranks.group.communicator(rank).AllReduceMax(&x, 1, ranks.Soon());
      },
      [&](const absl::Status& status) { ranks.group.communicator(0).Abort(status); });
  EXPECT_LT(std::chrono::steady_clock::now() - start,
            std::chrono::seconds(30));  // the deadline is 60 s
  for (int rank : {0, 1, 3}) {
    EXPECT_EQ(seen[rank].code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(seen[rank].message()), HasSubstr("rank 2: out of memory"));
  }
  EXPECT_EQ(result.code(), absl::StatusCode::kAborted);  // of rank 0, the first in order
}

TEST(LocalCommunicatorTest, AfterAnAbortEveryCallFailsUntilReset) {
  Ranks ranks(2);
  ranks.group.communicator(1).Abort(absl::CancelledError("first reason"));
  ranks.group.communicator(0).Abort(absl::InternalError("second reason"));
  const auto sum = [&](Communicator& comm) {
    float x = 1;
    return comm.AllReduceSum(&x, DType::kF32, 1, ranks.Soon());
  };
  for (int i = 0; i < 2; ++i) {
    const absl::Status status = ranks.Run(sum);
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(status.message()), HasSubstr("first reason"));
  }
  EXPECT_EQ(ranks.group.Reset(), absl::OkStatus());
  EXPECT_EQ(ranks.Run(sum), absl::OkStatus());
}

TEST(LocalCommunicatorTest, AnAbortFromOutsideWakesAWaitingRank) {
  Ranks ranks(2);
  std::atomic<bool> entered{false};
  std::thread outsider([&] {
    while (!entered) std::this_thread::yield();
    ranks.group.communicator(1).Abort(absl::CancelledError("client left"));
  });
  const absl::Status status = ranks.threads.Run([&](int rank) -> absl::Status {
    if (rank == 1) return absl::OkStatus();  // never comes
    entered = true;
    float x = 0;
    return ranks.group.communicator(0).AllReduceMax(&x, 1, ranks.Soon());
  });
  outsider.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
}

TEST(LocalCommunicatorTest, ALateRankFailsAllRanksAndIsNamed) {
  FakeClock clock;  // only the test moves it: waits must look at it by themselves
  LocalGroup group(3, clock);
  RankGroup threads(3, nullptr);
  const Deadline deadline = Deadline::After(clock, absl::Seconds(5));
  std::vector<absl::Status> seen(3);
  std::atomic<int> done{0};
  (void)threads.Run([&](int rank) -> absl::Status {
    if (rank == 1) {
      clock.Advance(absl::Seconds(6));
      while (done < 2) std::this_thread::yield();
    }
    float x = 0;
    seen[rank] = group.communicator(rank).AllReduceMax(&x, 1, deadline);
    ++done;
    return seen[rank];
  });
  for (const absl::Status& status : seen) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(std::string(status.message()), HasSubstr("AllReduceMax"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("for rank "));
    EXPECT_THAT(std::string(status.message()), HasSubstr("1"));
  }
  EXPECT_EQ(group.Reset(), absl::OkStatus());
  EXPECT_EQ(threads.Run([&](int rank) {
    float x = 0;
    return group.communicator(rank).AllReduceMax(&x, 1, Deadline::After(clock, kLong));
  }),
            absl::OkStatus());
}

TEST(LocalCommunicatorTest, RanksThatCallDifferentThingsAllFail) {
  Ranks ranks(2);
  std::vector<absl::Status> seen(2);
  (void)ranks.Run([&](Communicator& comm) {
    std::vector<float> data(20);
    return seen[comm.rank()] =
               comm.AllReduceMax(data.data(), comm.rank() == 0 ? 10 : 20, ranks.Soon());
  });
  for (const absl::Status& status : seen) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 0 calls AllReduceMax(f32 x 10), rank 1 AllReduceMax(f32 x 20)"));
  }
}

// Ranks free their buffers as soon as a call returns; a peer that still used one would be seen by
// ASAN and TSAN.
TEST(LocalCommunicatorTest, BuffersAreFreeToGoWhenAnAbortedCallReturns) {
  Ranks ranks(4);
  for (int round = 0; round < 30; ++round) {
    std::atomic<int> entered{0};
    std::thread outsider([&] {
      while (entered < 1 + round % 4) std::this_thread::yield();
      ranks.group.communicator(0).Abort(absl::CancelledError("round over"));
    });
    const absl::Status status = ranks.Run([&](Communicator& comm) {
      absl::Status status;
      do {
        std::vector<float> data(20'000, 1.0f);
        ++entered;
        status = comm.AllReduceSum(data.data(), DType::kF32, data.size(), ranks.Soon());
      } while (status.ok());
      return status;
    });
    outsider.join();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_EQ(ranks.group.Reset(), absl::OkStatus());
  }
}

TEST(RankGroupTest, RunsStartUpFirstAndKeepsItsThreads) {
  std::vector<std::thread::id> started(4), ran(4), ran_again(4);
  RankGroup group(4, [&](int rank) { started[rank] = std::this_thread::get_id(); });
  EXPECT_EQ(group.size(), 4);
  const auto note = [](std::vector<std::thread::id>& ids) {
    return [&ids](int rank) {
      ids[rank] = std::this_thread::get_id();
      return absl::OkStatus();
    };
  };
  EXPECT_EQ(group.Run(note(ran)), absl::OkStatus());
  EXPECT_EQ(group.Run(note(ran_again)), absl::OkStatus());
  EXPECT_EQ(ran, started);
  EXPECT_EQ(ran_again, started);
}

TEST(RankGroupTest, ReturnsTheFirstErrorInRankOrderAndForgetsIt) {
  RankGroup group(4, nullptr);
  std::atomic<int> told{0};
  const absl::Status status = group.Run(
      [](int rank) {
        return rank >= 2 ? absl::InternalError("rank " + std::to_string(rank)) : absl::OkStatus();
      },
      [&](const absl::Status&) { ++told; });
  EXPECT_EQ(status, absl::InternalError("rank 2"));
  EXPECT_EQ(told, 2);
  EXPECT_EQ(group.Run([](int) { return absl::OkStatus(); }), absl::OkStatus());
}

TEST(RankGroupTest, TakesCallersOneAtATime) {
  RankGroup group(2, nullptr);
  std::atomic<int> inside[2] = {0, 0};  // ranks that run for each caller
  std::atomic<int> num_mixed{0};
  const auto run = [&](int caller) {
    for (int i = 0; i < 50; ++i) {
      ASSERT_EQ(group.Run([&](int) {
        ++inside[caller];
        std::this_thread::yield();
        if (inside[1 - caller] > 0) ++num_mixed;
        --inside[caller];
        return absl::OkStatus();
      }),
                absl::OkStatus());
    }
  };
  std::thread other([&] { run(1); });
  run(0);
  other.join();
  EXPECT_EQ(num_mixed, 0);
}

}  // namespace
}  // namespace winnow
