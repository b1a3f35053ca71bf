#include "kernels/gated_act.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/fast_exp.h"
#include "tests/kernels/gated_act_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

// The exponential's bound, and room for the sum, the quotient and the product.
constexpr double kExpTolerance = 4 * UnitRoundoff(DType::kF32);
constexpr double kTolerance = kExpTolerance + 3 * UnitRoundoff(DType::kF32);

struct Implementation {
  const char* name;
  void (*run)(const GatedActParams&);
  DType dtype;
};
class GatedActTest : public ::testing::TestWithParam<Implementation> {};

double GatedAct(double gate, double up) { return gate / (1.0 + std::exp(-gate)) * up; }

TEST_P(GatedActTest, EqualsTheFormulaInDouble) {
  const auto [name, run, dtype] = GetParam();
  for (const GatedActCase& size : GatedActTestCases()) {
    SCOPED_TRACE(testing::Message() << size.rows << "x" << size.width);
    const HostArray gate_up =
        HostArray::Random(dtype, size.rows * 2 * size.width, 1, -30.0f, 30.0f);
    HostArray out(dtype, size.rows * size.width);
    run({gate_up.data(), out.data(), dtype, size.rows, size.width});
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t i = 0; i < out.count(); ++i) {
      const int64_t at = i / size.width * 2 * size.width + i % size.width;
      const double expected = GatedAct(gate_up[at], gate_up[at + size.width]);
      const double tolerance = (kTolerance + UnitRoundoff(dtype)) * std::abs(expected);
      ASSERT_TRUE(std::abs(out[i] - expected) <= tolerance)
          << "element " << i << ": expected " << expected << ", got " << out[i];
    }
  }
}

TEST_P(GatedActTest, ExtremesNeitherOverflowNorBecomeNan) {
  const auto [name, run, dtype] = GetParam();
  const float gates[] = {0.0f, -0.0f, 80.0f, -80.0f, 1000.0f, -1000.0f, 1e30f, -1e30f};
  HostArray gate_up(dtype, 16), out(dtype, 8);
  for (int i = 0; i < 8; ++i) gate_up.Set(i, gates[i]), gate_up.Set(8 + i, 2.0f);
  run({gate_up.data(), out.data(), dtype, 1, 8});
  for (int i = 0; i < 8; ++i) {
    const double expected = GatedAct(gate_up[i], 2.0);
    // Below e^−87 the exponential is clamped: what should vanish is at most |gate| · 2 / e^88.
    const double clamp = gates[i] < -80.0f ? std::abs(2.0 * gate_up[i]) * 1e-38 : 0.0;
    EXPECT_NEAR(out[i], expected, (kTolerance + UnitRoundoff(dtype)) * std::abs(expected) + clamp)
        << gates[i];
  }
}

TEST_P(GatedActTest, NanIsNotHidden) {
  const auto [name, run, dtype] = GetParam();
  HostArray gate_up = HostArray::Random(dtype, 64, 1), out(dtype, 32);
  gate_up.Set(3, NAN);
  gate_up.Set(32 + 20, NAN);
  run({gate_up.data(), out.data(), dtype, 1, 32});
  for (int64_t i = 0; i < 32; ++i) EXPECT_EQ(std::isnan(out[i]), i == 3 || i == 20) << i;
}

INSTANTIATE_TEST_SUITE_P(All, GatedActTest,
                         ::testing::Values(Implementation{"ref", GatedActRef, DType::kF32},
                                           Implementation{"ref", GatedActRef, DType::kBf16},
                                           Implementation{"cpu", GatedActCpu, DType::kF32},
                                           Implementation{"cpu", GatedActCpu, DType::kBf16}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
                         });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, GatedActTest,
    ::testing::Values(Implementation{"cuda", OnGpu<GatedActParams, GatedActCuda>, DType::kF32},
                      Implementation{"cuda", OnGpu<GatedActParams, GatedActCuda>, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

TEST(FastExpTest, IsWithinFourRoundoffs) {
  double worst = 0;
  for (int i = -870000; i <= 880000; ++i) {
    const float x = static_cast<float>(i) * 1e-4f;
    worst = std::max(worst, std::abs(FastExp(x) / std::exp(double{x}) - 1.0));
  }
  EXPECT_LE(worst, kExpTolerance);
  EXPECT_EQ(FastExp(0.0f), 1.0f);
}

}  // namespace
}  // namespace winnow
