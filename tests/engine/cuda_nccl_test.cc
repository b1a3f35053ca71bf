// NCCL itself on as many GPUs as there are (up to 4): collectives, an abort of a rank that waits,
// and a prefill that agrees with one GPU's.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "common/clock.h"
#include "engine/comm/nccl_communicator.h"
#include "engine/comm/rank_group.h"
#include "engine/device/cuda_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

using ::testing::Each;

// A GPU per rank with NCCL between them.
struct Gpus {
  explicit Gpus(int size) : threads(size, nullptr) {
    NcclGroup::Options options{.api = api.get(), .clock = &clock};
    for (int rank = 0; rank < size; ++rank) {
      auto backend = CudaBackend::Create({.device = rank});
      EXPECT_TRUE(backend.ok()) << backend.status();
      backends.push_back(*std::move(backend));
      options.devices.push_back(rank);
      options.streams.push_back(backends.back()->stream());
    }
    auto made = NcclGroup::Create(options);
    EXPECT_TRUE(made.ok()) << made.status();
    group = *std::move(made);
  }
  Deadline Soon(absl::Duration d = absl::Seconds(30)) const { return Deadline::After(clock, d); }
  // One collective on device memory that starts as `rank + 1`; gives back what came out.
  absl::StatusOr<std::vector<float>> Reduce(int rank, bool max, int64_t count, Deadline deadline) {
    CudaBackend& backend = *backends[rank];
    auto data = backend.Allocate(count * sizeof(float));
    if (!data.ok()) return data.status();
    backend.Fill(data->data<float>(), static_cast<float>(rank + 1), count);
    Communicator& comm = group->communicator(rank);
    const absl::Status status = max ? comm.AllReduceMax(data->data<float>(), count, deadline)
                                    : comm.AllReduceSum(data->data(), DType::kF32, count, deadline);
    if (!status.ok()) return status;
    auto host = backend.AllocateHost(count * sizeof(float));
    if (!host.ok()) return host.status();
    backend.Copy(host->data(), data->data(), count * sizeof(float));
    if (absl::Status done = backend.Record()->Wait(clock, deadline); !done.ok()) {
      comm.Abort(done);  // its kernel waits for a peer
      return done;
    }
    return std::vector<float>(host->data<float>(), host->data<float>() + count);
  }

  RealClock clock;
  std::unique_ptr<NcclApi> api = MakeNcclApi();
  RankGroup threads;
  std::vector<std::unique_ptr<CudaBackend>> backends;
  std::unique_ptr<NcclGroup> group;
};

class CudaNcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    size_ = std::min(NumCudaDevices(), 4);
    if (size_ == 0) GTEST_SKIP() << "no GPU here";
  }
  int size_ = 0;
};

TEST_F(CudaNcclTest, ReducesOnTheDevices) {
  Gpus gpus(size_);
  const auto n = static_cast<float>(size_);
  EXPECT_EQ(gpus.threads.Run([&](int rank) -> absl::Status {
    for (const int64_t count : {1, 1000, 131072}) {
      const auto sum = gpus.Reduce(rank, false, count, gpus.Soon());
      if (!sum.ok()) return sum.status();
      EXPECT_THAT(*sum, Each(n * (n + 1) / 2));
      const auto max = gpus.Reduce(rank, true, count, gpus.Soon());
      if (!max.ok()) return max.status();
      EXPECT_THAT(*max, Each(n));
    }
    return gpus.group->communicator(rank).Agree(absl::OkStatus(), gpus.Soon());
  }),
            absl::OkStatus());
}

TEST_F(CudaNcclTest, ARankThatStaysAwayIsADeadlineAndResetMends) {
  if (size_ < 2) GTEST_SKIP() << "needs two GPUs";
  Gpus gpus(size_);
  const absl::Time begin = gpus.clock.Now();
  const absl::Status status = gpus.threads.Run([&](int rank) -> absl::Status {
    if (rank == 1) return absl::OkStatus();
    return gpus.Reduce(rank, true, 1000, gpus.Soon(absl::Seconds(2))).status();
  });
  EXPECT_FALSE(status.ok());
  EXPECT_LT(gpus.clock.Now() - begin, absl::Seconds(20));
  ASSERT_EQ(gpus.group->Reset(), absl::OkStatus());
  EXPECT_EQ(gpus.threads.Run(
                [&](int rank) { return gpus.Reduce(rank, true, 1000, gpus.Soon()).status(); }),
            absl::OkStatus());
}

// The fixture makes backends one by one; NCCL comes up at the first collective, on all ranks at
// once.
class LateNccl {
 public:
  explicit LateNccl(int size) : size_(size) {}

  std::unique_ptr<Backend> MakeBackend(int rank, DType dtype) {
    auto backend = CudaBackend::Create({.device = rank, .dtype = dtype});
    EXPECT_TRUE(backend.ok()) << backend.status();
    streams_.push_back((*backend)->stream());
    return *std::move(backend);
  }
  Communicator& At(int rank) {
    std::call_once(once_, [this] {
      NcclGroup::Options options{.api = api_.get(), .clock = &clock_, .streams = streams_};
      for (int device = 0; device < size_; ++device) options.devices.push_back(device);
      auto made = NcclGroup::Create(options);
      EXPECT_TRUE(made.ok()) << made.status();
      group_ = *std::move(made);
    });
    return group_->communicator(rank);
  }

 private:
  const int size_;
  RealClock clock_;
  std::unique_ptr<NcclApi> api_ = MakeNcclApi();
  std::vector<CudaStream> streams_;
  std::once_flag once_;
  std::unique_ptr<NcclGroup> group_;
};

class LateCommunicator final : public Communicator {
 public:
  LateCommunicator(LateNccl& nccl, int rank, int size) : nccl_(nccl), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    return nccl_.At(rank_).AllReduceSum(data, dtype, count, deadline);
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    return nccl_.At(rank_).AllReduceMax(data, count, deadline);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    return nccl_.At(rank_).AllGather(in, out, bytes, deadline);
  }
  absl::Status Agree(const absl::Status& mine, Deadline deadline) override {
    return nccl_.At(rank_).Agree(mine, deadline);
  }
  void Abort(const absl::Status& reason) override { nccl_.At(rank_).Abort(reason); }

 private:
  LateNccl& nccl_;
  const int rank_, size_;
};

TEST_F(CudaNcclTest, PrefillAgreesWithTheGoldens) {
  if (size_ < 2) GTEST_SKIP() << "needs two GPUs";
  const int size = size_ < 4 ? 2 : 4;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    LateNccl nccl(size);
    PrefillFixture fixture(
        {.tensor_parallel = size,
         .dtype = dtype,
         .make_backend = [&](int rank, DType d) { return nccl.MakeBackend(rank, d); },
         .wrap =
             [&](int rank, Communicator&) {
               return std::make_unique<LateCommunicator>(nccl, rank, size);
             }});
    for (const int index : {0, 1}) {
      const GoldenCase golden = LoadGoldenCase(index);
      for (const GoldenCase::Claa& claa : golden.claa) {
        const auto run =
            fixture.Prefill(golden.ids, {.policy = "claa", .keep_ratio = claa.keep_ratio});
        ASSERT_TRUE(run.ok()) << run.status();
        EXPECT_EQ(ArgMax(run->output.logits), claa.tokens[0]);
        if (dtype == DType::kBf16) continue;
        EXPECT_THAT(DifferencesAwayFromTheCut(claa.kept_positions, run->output.kept_positions,
                                              golden.selection_scores, 2e-4),
                    testing::IsEmpty());
      }
    }
  }
}

}  // namespace
}  // namespace winnow
