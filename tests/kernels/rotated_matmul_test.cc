// The projections that rotate, against a product and a rotation in fp32. Only GPUs have them.
#include "kernels/rotated_matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/host_array.h"
#include "tests/kernels/on_gpu.h"
#include "tests/kernels/rotated_matmul_cases.h"
#include "tests/kernels/tolerance.h"

namespace winnow {
namespace {

constexpr int kHeadDim = 128;

HostArray ToF32(const HostArray& from, bool magnitudes = false) {
  HostArray to(DType::kF32, from.count());
  for (int64_t i = 0; i < from.count(); ++i) {
    to.Set(i, magnitudes ? std::abs(from[i]) : from[i]);
  }
  return to;
}

// A case's input, and its product [rows][heads][kHeadDim] in fp32 with the sums of magnitudes.
struct Data {
  explicit Data(const RotatedMatmulCase& c)
      : x(HostArray::Random(DType::kBf16, c.rows * c.x_stride(), 1)),
        w(HostArray::Random(DType::kBf16, c.heads * kHeadDim * c.in_features, 2)),
        product(Multiply(c, false)),
        magnitudes(Multiply(c, true)) {
    for (int64_t i = 0; i < c.rows; ++i) {
      positions.push_back(c.first_position + static_cast<int32_t>(3 * i));
    }
    for (int i = 0; i < kHeadDim / 2; ++i) {
      inv_freq.push_back(static_cast<float>(std::pow(500000.0, -2.0 * i / kHeadDim)));
    }
  }

  MatmulWeight weight(const RotatedMatmulCase& c) const {
    return {w.data(), DType::kBf16, c.heads * kHeadDim, c.in_features};
  }
  MatmulParams params(const RotatedMatmulCase& c, void* out) const {
    return {x.data(), out, c.rows, c.x_stride(), DType::kBf16};
  }

  // out[out_at + i], i < kHeadDim, is the head at `at` of the product, rotated for its row.
  void CheckHead(const RotatedMatmulCase& c, int64_t row, int64_t at, const HostArray& out,
                 int64_t out_at) const {
    constexpr int kHalf = kHeadDim / 2;
    for (int i = 0; i < kHeadDim; ++i) {
      const double angle = static_cast<float>(positions[row]) * inv_freq[i % kHalf];
      const double own = product[at + i], other = product[at + (i + kHalf) % kHeadDim];
      const double sign = i < kHalf ? -1 : 1;
      const double expected = c.scale * (own * std::cos(angle) + sign * other * std::sin(angle));
      // Both products are sums in fp32; sine and cosine are good to 2^-20; the last rounding is
      // the type's.
      const double sums =
          2 *
          SumTolerance(c.in_features, magnitudes[at + i] + magnitudes[at + (i + kHalf) % kHeadDim]);
      const double tolerance = c.scale * (sums + 0x1p-20 * (std::abs(own) + std::abs(other))) +
                               UnitRoundoff(DType::kBf16) * std::abs(expected);
      ASSERT_NEAR(out[out_at + i], expected, tolerance) << "row " << row << " channel " << i;
    }
  }
  // The same, not rotated.
  void CheckPlain(const RotatedMatmulCase& c, int64_t at, const HostArray& out,
                  int64_t out_at) const {
    for (int i = 0; i < kHeadDim; ++i) {
      ASSERT_NEAR(out[out_at + i], product[at + i],
                  2 * SumTolerance(c.in_features, magnitudes[at + i]) +
                      UnitRoundoff(DType::kBf16) * std::abs(product[at + i]))
          << "channel " << i;
    }
  }

  const HostArray x, w, product, magnitudes;
  std::vector<int32_t> positions;
  std::vector<float> inv_freq;

 private:
  HostArray Multiply(const RotatedMatmulCase& c, bool of_magnitudes) const {
    const HostArray a = ToF32(x, of_magnitudes), b = ToF32(w, of_magnitudes);
    HostArray out(DType::kF32, c.rows * c.heads * kHeadDim);
    MatmulRef({b.data(), DType::kF32, c.heads * kHeadDim, c.in_features},
              {a.data(), out.data(), c.rows, c.x_stride()});
    return out;
  }
};

TEST(RotatedMatmulTest, QueriesAreTheProductRotated) {
  for (const RotatedMatmulCase& c : RotatedMatmulTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << " rows, " << c.heads << " heads of " << c.in_features);
    const Data data(c);
    HostArray out(DType::kBf16, c.rows * c.heads * kHeadDim);
    const MatmulParams params = data.params(c, out.data());
    const RopeParams rope = {.x = out.data(),
                             .positions = data.positions.data(),
                             .inv_freq = data.inv_freq.data(),
                             .dtype = DType::kBf16,
                             .rows = c.rows,
                             .x_stride = c.heads * kHeadDim,
                             .heads = static_cast<int>(c.heads),
                             .head_dim = kHeadDim,
                             .scale = c.scale};
    ASSERT_TRUE(RotatedMatmulSm90Supports(data.weight(c), params, rope));
    RotatedMatmulSm90(data.weight(c), params, rope, nullptr);
    WaitForGpu();
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t i = 0; i < c.rows * c.heads && !HasFatalFailure(); ++i) {
      data.CheckHead(c, i / c.heads, i * kHeadDim, out, i * kHeadDim);
    }
  }
}

TEST(RotatedMatmulTest, KeysAreRotatedValuesAreNotAndOtherSlotsAreLeft) {
  for (const RotatedMatmulCase& c : RotatedMatmulTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << " rows, " << c.heads << " heads of " << c.in_features);
    constexpr int64_t kBefore = 3, kAfter = 70;  // more than a tile's rows would reach
    const Data data(c);
    const int64_t heads = c.heads / 2, capacity = kBefore + c.rows + kAfter;
    HostArray k(DType::kBf16, heads * capacity * kHeadDim), v = k;
    const MatmulParams params = data.params(c, nullptr);
    const StoreKvParams store = {.positions = data.positions.data(),
                                 .inv_freq = data.inv_freq.data(),
                                 .k_cache = k.data(),
                                 .v_cache = v.data(),
                                 .dtype = DType::kBf16,
                                 .rows = c.rows,
                                 .slot_begin = kBefore,
                                 .capacity = capacity,
                                 .heads = static_cast<int>(heads),
                                 .head_dim = kHeadDim,
                                 .scale = c.scale};
    ASSERT_TRUE(RotatedMatmulSm90Supports(data.weight(c), params, store));
    RotatedMatmulSm90(data.weight(c), params, store, nullptr);
    WaitForGpu();
    EXPECT_TRUE(k.GuardsIntact() && v.GuardsIntact());
    for (int64_t i = 0; i < heads * capacity && !HasFatalFailure(); ++i) {
      const int64_t head = i / capacity, row = i % capacity - kBefore;
      if (row < 0 || row >= c.rows) {
        for (int64_t e = i * kHeadDim; e < (i + 1) * kHeadDim; ++e) {
          ASSERT_TRUE(k.IsUntouched(e) && v.IsUntouched(e)) << "head " << head << " row " << row;
        }
        continue;
      }
      data.CheckHead(c, row, (row * c.heads + head) * kHeadDim, k, i * kHeadDim);
      data.CheckPlain(c, (row * c.heads + heads + head) * kHeadDim, v, i * kHeadDim);
    }
  }
}

TEST(RotatedMatmulTest, WhatNeedsMoreThanAProductAndARotationIsRefused) {
  HostArray x(DType::kBf16, 4 * 64), w(DType::kBf16, 256 * 64), out(DType::kBf16, 4 * 256);
  const MatmulWeight weight{w.data(), DType::kBf16, 256, 64};
  const MatmulParams matmul{x.data(), out.data(), 4, 64, DType::kBf16};
  const RopeParams rope{.x = out.data(),
                        .dtype = DType::kBf16,
                        .rows = 4,
                        .x_stride = 256,
                        .heads = 2,
                        .head_dim = kHeadDim};
  ASSERT_TRUE(RotatedMatmulSm90Supports(weight, matmul, rope));
  MatmulParams with_bias = matmul, added = matmul;
  with_bias.bias = x.data();
  added.accumulate = true;
  EXPECT_FALSE(RotatedMatmulSm90Supports(weight, with_bias, rope));
  EXPECT_FALSE(RotatedMatmulSm90Supports(weight, added, rope));
  RopeParams normed = rope, small_heads = rope;
  normed.norm.weight = x.data();
  small_heads.heads = 4, small_heads.head_dim = 64;
  EXPECT_FALSE(RotatedMatmulSm90Supports(weight, matmul, normed));
  EXPECT_FALSE(RotatedMatmulSm90Supports(weight, matmul, small_heads));
}

}  // namespace
}  // namespace winnow
