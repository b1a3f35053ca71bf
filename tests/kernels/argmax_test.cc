#include "kernels/argmax.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Implementation {
  const char* name;
  void (*run)(const ArgMaxParams&);
};

class ArgMaxTest : public ::testing::TestWithParam<Implementation> {
 protected:
  static std::vector<int32_t> Run(const std::vector<float>& in, int64_t width) {
    std::vector<int32_t> out(in.size() / width + 1, -7);  // one more than is written
    const auto rows = static_cast<int64_t>(in.size()) / width;
    GetParam().run({in.data(), out.data(), rows, width});
    EXPECT_EQ(out.back(), -7);
    out.pop_back();
    return out;
  }
};

TEST_P(ArgMaxTest, FindsTheHighestOfEveryRow) {
  std::mt19937 random(3);
  for (const int64_t width : {1, 2, 31, 32, 33, 1023, 1024, 1025, 4096, 128256}) {
    SCOPED_TRACE(width);
    constexpr int64_t kRows = 5;
    std::uniform_real_distribution<float> values(-9.0f, 9.0f);
    std::vector<float> in(kRows * width);
    for (float& x : in) x = values(random);
    std::vector<int32_t> places;
    for (int64_t row = 0; row < kRows; ++row) {
      places.push_back(static_cast<int32_t>(row == 0 ? width - 1 : random() % width));
      in[row * width + places.back()] = 10.0f;
    }
    EXPECT_EQ(Run(in, width), places);
  }
}

TEST_P(ArgMaxTest, TheFirstOfEqualsWins) {
  std::vector<float> in(5000, 1.0f);
  EXPECT_EQ(Run(in, 5000), std::vector<int32_t>{0});
  in[4321] = in[1234] = in[1235] = 2.0f;
  EXPECT_EQ(Run(in, 5000), std::vector<int32_t>{1234});
}

TEST_P(ArgMaxTest, WhatIsNoFiniteNumberHasNone) {
  std::vector<float> in(3 * 2000, -1.0f);
  in[1999] = kNan;
  in[2000 + 7] = kInfinity;
  in[4000 + 7] = -kInfinity;
  in[4000 + 8] = 0.0f;
  EXPECT_EQ(Run(in, 2000), (std::vector<int32_t>{-1, -1, 8}));
  EXPECT_EQ(Run(std::vector<float>(40, -kInfinity), 40), std::vector<int32_t>{-1});
}

INSTANTIATE_TEST_SUITE_P(All, ArgMaxTest,
                         ::testing::Values(Implementation{"ref", ArgMaxRef},
                                           Implementation{"cpu", ArgMaxCpu}),
                         [](const auto& info) { return std::string(info.param.name); });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(Gpu, ArgMaxTest,
                         ::testing::Values(Implementation{"cuda", OnGpu<ArgMaxParams, ArgMaxCuda>}),
                         [](const auto& info) { return std::string(info.param.name); });
#endif

}  // namespace
}  // namespace winnow
