#include "kernels/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/fast_sincos.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/rope_cases.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Implementation {
  const char* name;
  void (*rope)(const RopeParams&);
  void (*store_kv)(const StoreKvParams&);
  DType dtype;
};
class RopeTest : public ::testing::TestWithParam<Implementation> {};

struct Angles {
  explicit Angles(const RopeCase& c) {
    for (int64_t i = 0; i < c.rows; ++i)
      positions.push_back(c.first_position + static_cast<int32_t>(3 * i));
    for (int i = 0; i < c.head_dim / 2; ++i) {
      inv_freq.push_back(static_cast<float>(std::pow(500000.0, -2.0 * i / c.head_dim)));
    }
  }
  std::vector<int32_t> positions;
  std::vector<float> inv_freq;
};

// One head of `in` at in_at, rotated in double, against `out` at out_at. The angle is the float
// product that the contract states; sine and cosine are good to 2 u, then two products and a sum.
void CheckHead(const HostArray& in, int64_t in_at, const HostArray& out, int64_t out_at,
               const RopeCase& c, const Angles& angles, int64_t row) {
  const int half = c.head_dim / 2;
  for (int i = 0; i < half; ++i) {
    const double angle = static_cast<float>(angles.positions[row]) * angles.inv_freq[i];
    const double a = in[in_at + i], b = in[in_at + half + i];
    const double low = c.scale * (a * std::cos(angle) - b * std::sin(angle));
    const double high = c.scale * (b * std::cos(angle) + a * std::sin(angle));
    const double tolerance = 5 * UnitRoundoff(DType::kF32) * c.scale * (std::abs(a) + std::abs(b));
    const double store = UnitRoundoff(out.dtype());
    if (!(std::abs(out[out_at + i] - low) <= tolerance + store * std::abs(low)) ||
        !(std::abs(out[out_at + half + i] - high) <= tolerance + store * std::abs(high))) {
      FAIL() << "row " << row << " pair " << i << ": expected " << low << ", " << high << ", got "
             << out[out_at + i] << ", " << out[out_at + half + i];
    }
  }
}

TEST_P(RopeTest, RotatesEveryHeadByItsRowsPosition) {
  const auto [name, rope, store_kv, dtype] = GetParam();
  for (const RopeCase& c : RopeTestCases()) {
    SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.heads << "x" << c.head_dim);
    const int64_t width = int64_t{c.heads} * c.head_dim, stride = width + c.gap;
    const Angles angles(c);
    HostArray x = HostArray::Random(dtype, c.rows * stride, 1);
    const HostArray before = x;
    rope({.x = x.data(),
          .positions = angles.positions.data(),
          .inv_freq = angles.inv_freq.data(),
          .dtype = dtype,
          .rows = c.rows,
          .x_stride = stride,
          .heads = c.heads,
          .head_dim = c.head_dim,
          .scale = c.scale});
    EXPECT_TRUE(x.GuardsIntact());
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int h = 0; h < c.heads; ++h) {
        const int64_t at = row * stride + h * c.head_dim;
        CheckHead(before, at, x, at, c, angles, row);
      }
      for (int64_t i = row * stride + width; i < (row + 1) * stride; ++i)
        EXPECT_EQ(x[i], before[i]) << "gap " << i;
    }
  }
}

TEST_P(RopeTest, StoreKvRotatesKCopiesVAndLeavesOtherSlots) {
  const auto [name, rope, store_kv, dtype] = GetParam();
  for (const RopeCase& c : RopeTestCases()) {
    SCOPED_TRACE(testing::Message() << c.rows << " rows, " << c.heads << "x" << c.head_dim);
    const int64_t width = int64_t{c.heads} * c.head_dim, capacity = c.rows + 2 * c.gap;
    const Angles angles(c);
    const HostArray kv = HostArray::Random(dtype, c.rows * 2 * width, 1);
    HostArray k(dtype, capacity * width), v(dtype, capacity * width);
    store_kv({.kv = kv.data(),
              .positions = angles.positions.data(),
              .inv_freq = angles.inv_freq.data(),
              .k_cache = k.data(),
              .v_cache = v.data(),
              .dtype = dtype,
              .rows = c.rows,
              .slot_begin = c.gap,
              .capacity = capacity,
              .heads = c.heads,
              .head_dim = c.head_dim,
              .scale = c.scale});
    EXPECT_TRUE(k.GuardsIntact() && v.GuardsIntact());
    for (int h = 0; h < c.heads; ++h) {
      for (int64_t slot = 0; slot < capacity; ++slot) {
        const int64_t to = (h * capacity + slot) * c.head_dim, row = slot - c.gap;
        if (row < 0 || row >= c.rows) {
          EXPECT_TRUE(k.IsUntouched(to) && v.IsUntouched(to)) << "head " << h << " slot " << slot;
          continue;
        }
        const int64_t from = row * 2 * width + h * c.head_dim;
        CheckHead(kv, from, k, to, c, angles, row);
        for (int i = 0; i < c.head_dim; ++i) ASSERT_EQ(v[to + i], kv[from + width + i]);
      }
    }
  }
}

TEST_P(RopeTest, PositionZeroChangesNothing) {
  const auto [name, rope, store_kv, dtype] = GetParam();
  const RopeCase c{.rows = 1, .heads = 3, .head_dim = 32};
  const Angles angles(c);
  HostArray x = HostArray::Random(dtype, 96, 1);
  const HostArray before = x;
  rope({.x = x.data(),
        .positions = angles.positions.data(),
        .inv_freq = angles.inv_freq.data(),
        .dtype = dtype,
        .rows = 1,
        .x_stride = 96,
        .heads = 3,
        .head_dim = 32});
  EXPECT_EQ(x, before);
}

// Heads of `x` normed in double, rounded to the type as the contract says.
HostArray NormedHeads(const HostArray& x, const HostArray& weight, float eps) {
  const int64_t head_dim = weight.count();
  HostArray out(x.dtype(), x.count());
  for (int64_t at = 0; at < x.count(); at += head_dim) {
    double sum = 0;
    for (int64_t c = 0; c < head_dim; ++c) sum += double{x[at + c]} * x[at + c];
    const double factor = 1.0 / std::sqrt(sum / static_cast<double>(head_dim) + eps);
    for (int64_t c = 0; c < head_dim; ++c) {
      out.Set(at + c, static_cast<float>(x[at + c] * factor * weight[c]));
    }
  }
  return out;
}

TEST_P(RopeTest, NormsEachHeadBeforeItsRotation) {
  const auto [name, rope, store_kv, dtype] = GetParam();
  for (const int head_dim : {2, 16, 34, 128}) {
    SCOPED_TRACE(head_dim);
    const RopeCase c{.rows = 70, .heads = 3, .head_dim = head_dim};
    const Angles angles(c);
    const int64_t width = int64_t{c.heads} * head_dim;
    const HostArray kv = HostArray::Random(dtype, c.rows * 2 * width, 1, -2.0f, 3.0f);
    const HostArray weight = HostArray::Random(dtype, head_dim, 2, 0.5f, 1.5f);
    const HeadNorm norm{weight.data(), 1e-3f};
    const HostArray normed = NormedHeads(kv, weight, norm.eps);
    HostArray x = kv, k(dtype, c.rows * width), v(dtype, c.rows * width);
    rope({.x = x.data(),
          .positions = angles.positions.data(),
          .inv_freq = angles.inv_freq.data(),
          .dtype = dtype,
          .rows = c.rows,
          .x_stride = 2 * width,
          .heads = c.heads,
          .head_dim = head_dim,
          .norm = norm});
    store_kv({.kv = kv.data(),
              .positions = angles.positions.data(),
              .inv_freq = angles.inv_freq.data(),
              .k_cache = k.data(),
              .v_cache = v.data(),
              .dtype = dtype,
              .rows = c.rows,
              .capacity = c.rows,
              .heads = c.heads,
              .head_dim = head_dim,
              .norm = norm});
    // Of the norm's factor and the rotation; the norm's rounding to the type may fall the other
    // way.
    const double slack = 10 * UnitRoundoff(DType::kF32) + 3 * UnitRoundoff(dtype);
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int h = 0; h < c.heads; ++h) {
        for (int i = 0; i < head_dim / 2; ++i) {
          const int64_t at = row * 2 * width + h * head_dim + i;
          const double angle = static_cast<float>(angles.positions[row]) * angles.inv_freq[i];
          const double a = normed[at], b = normed[at + head_dim / 2];
          const double low = a * std::cos(angle) - b * std::sin(angle);
          const double tolerance = slack * (std::abs(a) + std::abs(b));
          ASSERT_NEAR(x[at], low, tolerance) << "row " << row;
          ASSERT_NEAR(k[(h * c.rows + row) * head_dim + i], low, tolerance) << "row " << row;
          ASSERT_EQ(v[(h * c.rows + row) * head_dim + i], kv[at + width]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RopeTest,
                         ::testing::Values(Implementation{"ref", RopeRef, StoreKvRef, DType::kF32},
                                           Implementation{"ref", RopeRef, StoreKvRef, DType::kBf16},
                                           Implementation{"cpu", RopeCpu, StoreKvCpu, DType::kF32},
                                           Implementation{"cpu", RopeCpu, StoreKvCpu,
                                                          DType::kBf16}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
                         });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, RopeTest,
    ::testing::Values(Implementation{"cuda", OnGpu<RopeParams, RopeCuda>,
                                     OnGpu<StoreKvParams, StoreKvCuda>, DType::kF32},
                      Implementation{"cuda", OnGpu<RopeParams, RopeCuda>,
                                     OnGpu<StoreKvParams, StoreKvCuda>, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

TEST(FastSinCosTest, IsWithinTwoRoundoffsUpToAMillionRadians) {
  double worst = 0;
  for (int i = -200000; i <= 200000; ++i) {
    const float x = i < 0 ? static_cast<float>(i) * 5.0123f : static_cast<float>(i) * 1e-4f;
    float sin, cos;
    FastSinCos(x, &sin, &cos);
    worst =
        std::max({worst, std::abs(sin - std::sin(double{x})), std::abs(cos - std::cos(double{x}))});
  }
  EXPECT_LE(worst, 2 * UnitRoundoff(DType::kF32));
}

}  // namespace
}  // namespace winnow
