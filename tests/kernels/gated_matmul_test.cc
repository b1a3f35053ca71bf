#include "kernels/gated_matmul.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/gated_matmul_cases.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Implementation {
  const char* name;
  void (*run)(const MatmulWeight&, const GatedMatmulParams&);
  DType dtype;
};
class GatedMatmulTest : public ::testing::TestWithParam<Implementation> {};

// A sum in double, and how far fp32 may be from it.
struct Sum {
  double value = 0, tolerance = 0;
};
Sum Dot(const HostArray& x, int64_t x_at, const HostArray& w, int64_t w_at, int64_t count) {
  double sum = 0, magnitude = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double term = double{x[x_at + i]} * w[w_at + i];
    sum += term;
    magnitude += std::abs(term);
  }
  return {sum, SumTolerance(count, magnitude)};
}

TEST_P(GatedMatmulTest, EqualsTheFormulaInDouble) {
  const auto [name, run, dtype] = GetParam();
  for (const GatedMatmulCase& c : GatedMatmulTestCases()) {
    SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.width << "x" << c.in_features);
    const HostArray x = HostArray::Random(dtype, c.rows * c.x_stride(), 1);
    const HostArray w = HostArray::Random(dtype, 2 * c.width * c.in_features, 2);
    HostArray out(dtype, c.rows * c.width);
    run({w.data(), dtype, 2 * c.width, c.in_features},
        {x.data(), out.data(), c.rows, c.x_stride()});
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t i = 0; i < out.count(); ++i) {
      const int64_t x_at = i / c.width * c.x_stride(), w_at = i % c.width * c.in_features;
      const Sum gate = Dot(x, x_at, w, w_at, c.in_features);
      const Sum up = Dot(x, x_at, w, w_at + c.width * c.in_features, c.in_features);
      const double silu = gate.value / (1.0 + std::exp(-gate.value));
      const double expected = silu * up.value;
      // SiLU's slope is at most 1.1; a few roundings of SwiGLU itself; the last one is the type's.
      const double tolerance =
          1.1 * gate.tolerance * std::abs(up.value) +
          up.tolerance * (std::abs(silu) + gate.tolerance) +
          (8 * UnitRoundoff(DType::kF32) + UnitRoundoff(dtype)) * std::abs(expected);
      ASSERT_TRUE(std::abs(out[i] - expected) <= tolerance)
          << "element " << i << ": expected " << expected << " ± " << tolerance << ", got "
          << out[i];
    }
  }
}

TEST_P(GatedMatmulTest, ExtremesNeitherOverflowNorBecomeNan) {
  const auto [name, run, dtype] = GetParam();
  constexpr int64_t kWidth = 128, kIn = 64;
  HostArray x = HostArray::Random(dtype, kIn, 1, 0.0f, 0.0f);
  HostArray w = HostArray::Random(dtype, 2 * kWidth * kIn, 2, 1.0f, 1.0f);
  HostArray out(dtype, kWidth);
  const float gates[] = {0.0f, 200.0f, -200.0f, 1e30f, -1e30f};
  x.Set(0, 1.0f);
  for (int64_t i = 0; i < 5; ++i) w.Set(i * kIn, gates[i]);
  run({w.data(), dtype, 2 * kWidth, kIn}, {x.data(), out.data(), 1, kIn});
  for (int64_t i = 0; i < 5; ++i) {
    const double gate = w[i * kIn];
    const double expected = gate / (1.0 + std::exp(-gate));
    EXPECT_NEAR(out[i], expected, UnitRoundoff(DType::kBf16) * std::abs(expected) + 1e-6) << gate;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GatedMatmulTest,
                         ::testing::Values(Implementation{"ref", GatedMatmulRef, DType::kF32},
                                           Implementation{"ref", GatedMatmulRef, DType::kBf16}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
                         });

#ifdef WINNOW_CUDA
void RunSm90(const MatmulWeight& w, const GatedMatmulParams& p) {
  ASSERT_TRUE(GatedMatmulSm90Supports(w, p));
  GatedMatmulSm90(w, p, nullptr);
  WaitForGpu();
}
INSTANTIATE_TEST_SUITE_P(Gpu, GatedMatmulTest,
                         ::testing::Values(Implementation{"sm90", RunSm90, DType::kBf16}),
                         [](const auto&) { return "sm90_bf16"; });
#endif

}  // namespace
}  // namespace winnow
