#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/host_array.h"
#include "tests/kernels/rms_norm_cases.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

constexpr float kEps = 1e-5f;

struct Implementation {
  const char* name;
  void (*run)(const RmsNormParams&);
  DType dtype;
};
class RmsNormTest : public ::testing::TestWithParam<Implementation> {};

// One row: out[c] = x[c] · rsqrt(mean x² + eps) · weight[c] in double, from x as it is stored.
void CheckRow(const HostArray& x, const HostArray& weight, const HostArray& out, int64_t row,
              int hidden) {
  double sum = 0;
  for (int c = 0; c < hidden; ++c) sum += double{x[row * hidden + c]} * x[row * hidden + c];
  const double scale = 1.0 / std::sqrt(sum / hidden + kEps);
  // The sum has no cancellation, and the root halves its relative error; five more roundings; then
  // the store's.
  const double relative =
      SumTolerance(hidden, 1.0) / 2 + 5 * UnitRoundoff(DType::kF32) + UnitRoundoff(out.dtype());
  for (int c = 0; c < hidden; ++c) {
    const double expected = x[row * hidden + c] * scale * weight[c];
    if (!(std::abs(out[row * hidden + c] - expected) <= relative * std::abs(expected))) {
      FAIL() << "row " << row << " column " << c << ": expected " << expected << ", got "
             << out[row * hidden + c];
    }
  }
}

TEST_P(RmsNormTest, AddsThenNormsWhatWasStored) {
  const auto [name, run, dtype] = GetParam();
  for (const RmsNormCase& size : RmsNormTestCases()) {
    SCOPED_TRACE(testing::Message() << size.rows << "x" << size.hidden);
    const int64_t count = size.rows * size.hidden;
    HostArray x = HostArray::Random(dtype, count, 1, -2.0f, 3.0f);
    const HostArray before = x, delta = HostArray::Random(dtype, count, 2),
                    weight = HostArray::Random(dtype, size.hidden, 3);
    HostArray out(dtype, count);
    run({.x = x.data(),
         .delta = size.with_delta ? delta.data() : nullptr,
         .weight = weight.data(),
         .out = out.data(),
         .dtype = dtype,
         .rows = size.rows,
         .hidden = size.hidden,
         .eps = kEps});
    HostArray sum = before;
    for (int64_t i = 0; size.with_delta && i < count; ++i) sum.Set(i, before[i] + delta[i]);
    EXPECT_EQ(x, sum);  // one rounding: exact
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t row = 0; row < size.rows; ++row) CheckRow(x, weight, out, row, size.hidden);
  }
}

TEST_P(RmsNormTest, AddsTheSumOfAddendsRoundedOnce) {
  const auto [name, run, dtype] = GetParam();
  for (const int hidden : {20, 64, 4096}) {
    const int64_t count = int64_t{3} * hidden;
    const HostArray before = HostArray::Random(dtype, count, 1);
    std::vector<HostArray> parts;
    for (int a = 0; a < kMaxAddends; ++a) parts.push_back(HostArray::Random(dtype, count, 2 + a));
    for (int addends = 2; addends <= kMaxAddends; ++addends) {
      HostArray x = before, delta(dtype, count), sum = before;
      RmsNormParams params{.x = x.data(), .dtype = dtype, .rows = 3, .hidden = hidden};
      params.delta.count = addends;
      for (int a = 0; a < addends; ++a) params.delta.data[a] = parts[a].data();
      for (int64_t i = 0; i < count; ++i) {
        float total = 0;
        for (int a = 0; a < addends; ++a) total += parts[a][i];
        delta.Set(i, total);
        sum.Set(i, before[i] + delta[i]);
      }
      run(params);
      EXPECT_EQ(x, sum) << addends << " of " << hidden;
    }
  }
}

TEST_P(RmsNormTest, WithoutOutputOnlyAdds) {
  const auto [name, run, dtype] = GetParam();
  HostArray x = HostArray::Random(dtype, 3 * 20, 1), delta = HostArray::Random(dtype, 3 * 20, 2),
            sum = x;
  for (int64_t i = 0; i < x.count(); ++i) sum.Set(i, x[i] + delta[i]);
  run({.x = x.data(), .delta = delta.data(), .dtype = dtype, .rows = 3, .hidden = 20, .eps = kEps});
  EXPECT_EQ(x, sum);
}

TEST_P(RmsNormTest, ZeroRowGivesZerosNotNan) {
  const auto [name, run, dtype] = GetParam();
  HostArray x(dtype, 48), weight = HostArray::Random(dtype, 48, 1), out(dtype, 48);
  for (int64_t i = 0; i < 48; ++i) x.Set(i, 0.0f);
  run({.x = x.data(),
       .weight = weight.data(),
       .out = out.data(),
       .dtype = dtype,
       .rows = 1,
       .hidden = 48,
       .eps = kEps});
  for (int64_t i = 0; i < 48; ++i) EXPECT_EQ(out[i], 0.0f);
}

TEST_P(RmsNormTest, NanInARowStaysInThatRow) {
  const auto [name, run, dtype] = GetParam();
  HostArray x = HostArray::Random(dtype, 2 * 32, 1), weight = HostArray::Random(dtype, 32, 2),
            out(dtype, 2 * 32);
  x.Set(5, NAN);
  run({.x = x.data(),
       .weight = weight.data(),
       .out = out.data(),
       .dtype = dtype,
       .rows = 2,
       .hidden = 32,
       .eps = kEps});
  for (int64_t c = 0; c < 32; ++c) EXPECT_TRUE(std::isnan(out[c]));
  CheckRow(x, weight, out, 1, 32);
}

INSTANTIATE_TEST_SUITE_P(All, RmsNormTest,
                         ::testing::Values(Implementation{"ref", RmsNormRef, DType::kF32},
                                           Implementation{"ref", RmsNormRef, DType::kBf16},
                                           Implementation{"cpu", RmsNormCpu, DType::kF32},
                                           Implementation{"cpu", RmsNormCpu, DType::kBf16}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
                         });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, RmsNormTest,
    ::testing::Values(Implementation{"cuda", OnGpu<RmsNormParams, RmsNormCuda>, DType::kF32},
                      Implementation{"cuda", OnGpu<RmsNormParams, RmsNormCuda>, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

}  // namespace
}  // namespace winnow
