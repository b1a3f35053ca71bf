#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "engine/device/cpu_backend.h"
#include "engine/device/ref_backend.h"
#include "engine/ranks/model_ranks.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using MakeBackend = std::unique_ptr<Backend> (*)(DType);

std::unique_ptr<Backend> MakeCpu(DType dtype) {
  return std::make_unique<CpuBackend>(CpuBackend::Options{.types = dtype, .num_threads = 2});
}
std::unique_ptr<Backend> MakeRef(DType dtype) { return std::make_unique<RefBackend>(dtype); }

class HostBackendTest : public ::testing::TestWithParam<MakeBackend> {
 protected:
  std::unique_ptr<Backend> Make(DType dtype) const { return GetParam()(dtype); }
};

TEST_P(HostBackendTest, SaysItsType) {
  EXPECT_EQ(Make(DType::kF32)->dtype(), DType::kF32);
  EXPECT_EQ(Make(DType::kBf16)->dtype(), DType::kBf16);
}

TEST_P(HostBackendTest, MemoryIsAlignedAndAsLargeAsAskedFor) {
  const auto backend = Make(DType::kF32);
  for (const size_t bytes : {0, 1, 63, 64, 65, 100000}) {
    for (const bool host : {false, true}) {
      auto buffer = host ? backend->AllocateHost(bytes) : backend->Allocate(bytes);
      ASSERT_TRUE(buffer.ok()) << buffer.status();
      EXPECT_NE(buffer->data(), nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
      EXPECT_EQ(buffer->bytes(), bytes);
    }
  }
}

TEST_P(HostBackendTest, TooMuchMemoryIsResourceExhaustedAndNamesTheSize) {
  const auto backend = Make(DType::kF32);
  for (const size_t bytes : {size_t{1} << 62, std::numeric_limits<size_t>::max()}) {
    const auto buffer = backend->Allocate(bytes);
    ASSERT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_NE(std::string(buffer.status().message()).find(std::to_string(bytes)),
              std::string::npos);
  }
}

TEST_P(HostBackendTest, CopyAndFillAreDoneWhenTheyReturn) {
  const auto backend = Make(DType::kF32);
  Buffer buffer = *backend->Allocate(6 * sizeof(float));
  auto* data = buffer.data<float>();
  const float values[] = {1, 2, 3, 4, 5, 6};
  backend->Copy(data, values, sizeof(values));
  backend->Copy(nullptr, nullptr, 0);
  backend->Fill(data + 2, -1.0f, 3);
  backend->Fill(nullptr, 0.0f, 0);
  EXPECT_EQ(std::vector<float>(data, data + 6), (std::vector<float>{1, 2, -1, -1, -1, 6}));
  const EventPtr event = backend->Record();
  EXPECT_TRUE(event->IsDone());
  FakeClock clock;
  EXPECT_TRUE(event->Wait(clock, Deadline::At(clock.Now())).ok());  // even with no time left
}

TEST_P(HostBackendTest, PackedWeightIsACopy) {
  const auto backend = Make(DType::kF32);
  std::vector<float> weight = {1, 2, 3, 4, 5, 6};  // [2][3]
  const auto packed = *backend->Pack({weight.data(), DType::kF32, 2, 3});
  weight.assign(6, 0.0f);
  EXPECT_EQ(packed->out_features(), 2);
  EXPECT_EQ(packed->in_features(), 3);
  const float x[] = {1, 10, 100, 7, 2, 0, 1, 7};  // two rows, 4 apart
  float out[4] = {};
  backend->Matmul(*packed, {.x = x, .out = out, .rows = 2, .x_stride = 4});
  EXPECT_EQ(std::vector<float>(out, out + 4), (std::vector<float>{321, 654, 5, 14}));
}

INSTANTIATE_TEST_SUITE_P(All, HostBackendTest, ::testing::Values(&MakeCpu, &MakeRef),
                         [](const auto& info) { return info.index == 0 ? "cpu" : "ref"; });

TEST(CpuBackendTest, UsesItsOwnNumberOfThreadsOnWhateverThreadCalls) {
  std::thread([] {
    omp_set_num_threads(1);
    CpuBackend backend({.types = DType::kF32, .num_threads = 3});
    float x = 1.0f, weight = 1.0f, out = 0.0f;
    backend.RmsNorm(
        {.x = &x, .weight = &weight, .out = &out, .dtype = DType::kF32, .rows = 1, .hidden = 1});
    EXPECT_EQ(omp_get_max_threads(), 3);
  }).join();
}

TEST(CpuBackendTest, RefusesBf16WithoutItsInstructions) {
  CpuBackend backend({.types = DType::kBf16});
  const Bf16 weight[4] = {};
  EXPECT_EQ(backend.Pack({weight, DType::kBf16, 2, 2}).ok(), CpuHasBf16());
}

TEST(ModelTypesTest, AMixThatNoKernelComputesIsRefused) {
  const RealClock clock;
  for (const ModelTypes types : {ModelTypes(DType::kF32, DType::kF32, DType::kBf16),
                                 ModelTypes(DType::kBf16, DType::kF32, DType::kF32)}) {
    const absl::Status status =
        LoadModelRanks(
            {.model_dir = WINNOW_SOURCE_DIR "/models/demo", .types = types, .clock = &clock})
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("must be of one type"));
  }
}

}  // namespace
}  // namespace winnow
