#include "kernels/matmul.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <thread>

#include "tests/kernels/host_array.h"
#include "tests/kernels/matmul_cases.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "kernels/cublas_matmul.h"
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Problem {
  Problem(const MatmulCase& c, DType dtype, DType out_dtype)
      : size(c),
        x(HostArray::Random(dtype, c.rows * c.stride(), 1)),
        w(HostArray::Random(dtype, c.out_features * c.in_features, 2)),
        out(out_dtype, c.rows * c.out_features) {}

  MatmulWeight weight() const { return {w.data(), w.dtype(), size.out_features, size.in_features}; }
  MatmulParams params() { return {x.data(), out.data(), size.rows, size.stride(), out.dtype()}; }

  // Every output against a sum in double.
  void Check() const {
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t i = 0; i < size.rows; ++i) {
      for (int64_t o = 0; o < size.out_features; ++o) {
        double sum = 0, magnitude = 0;
        for (int64_t c = 0; c < size.in_features; ++c) {
          const double term = double{x[i * size.stride() + c]} * w[o * size.in_features + c];
          sum += term;
          magnitude += std::abs(term);
        }
        const double tolerance =
            SumTolerance(size.in_features, magnitude) + UnitRoundoff(out.dtype()) * std::abs(sum);
        // ! (≤) instead of >, so that NaN fails.
        if (!(std::abs(out[i * size.out_features + o] - sum) <= tolerance)) {
          FAIL() << "row " << i << " feature " << o << ": expected " << sum << " ± " << tolerance
                 << ", got " << out[i * size.out_features + o];
        }
      }
    }
  }

  MatmulCase size;
  HostArray x, w, out;
};

std::vector<const char*> Implementations() {
#ifdef WINNOW_CUDA
  return {"ref", "cpu", "cuda"};
#else
  return {"ref", "cpu"};
#endif
}

void RunOn(const std::string& how, const MatmulWeight& weight, const MatmulParams& params) {
  if (how == "ref") {
    MatmulRef(weight, params);
  } else if (how == "cpu") {
    CpuMatmul(weight).Run(params);
  } else {
#ifdef WINNOW_CUDA
    std::string error;
    CublasMatmul matmul(&error);
    ASSERT_EQ(error, "");
    ASSERT_EQ(matmul.Run(weight, params, nullptr), "");
    WaitForGpu();
#endif
  }
}

struct Types {
  DType dtype, out_dtype;
};
class MatmulTypes : public ::testing::TestWithParam<Types> {
 protected:
  void SetUp() override {
    if (GetParam().dtype == DType::kBf16 && !CpuHasBf16())
      GTEST_SKIP() << "no bf16 instructions here";
  }
};

TEST_P(MatmulTypes, ReferenceEqualsSumsInDouble) {
  for (const MatmulCase& c : MatmulTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << "x" << c.out_features << "x" << c.in_features << "/" << c.stride());
    Problem problem(c, GetParam().dtype, GetParam().out_dtype);
    MatmulRef(problem.weight(), problem.params());
    problem.Check();
  }
}

#ifdef WINNOW_CUDA
TEST_P(MatmulTypes, CublasEqualsSumsInDouble) {
  std::string error;
  CublasMatmul matmul(&error);
  ASSERT_EQ(error, "");
  for (const MatmulCase& c : MatmulTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << "x" << c.out_features << "x" << c.in_features << "/" << c.stride());
    Problem problem(c, GetParam().dtype, GetParam().out_dtype);
    ASSERT_EQ(matmul.Run(problem.weight(), problem.params(), nullptr), "");
    WaitForGpu();
    problem.Check();
  }
}

TEST_P(MatmulTypes, CublasAddsTheBias) {
  if (GetParam().dtype != GetParam().out_dtype) GTEST_SKIP() << "no bias for this";
  std::string error;
  CublasMatmul matmul(&error);
  const MatmulCase c{130, 64, 48};
  Problem problem(c, GetParam().dtype, GetParam().out_dtype), plain = problem;
  const HostArray bias = HostArray::Random(GetParam().dtype, c.out_features, 3, -3.0f, 3.0f);
  MatmulParams params = problem.params();
  params.bias = bias.data();
  MatmulRef(plain.weight(), plain.params());
  ASSERT_EQ(matmul.Run(problem.weight(), params, nullptr), "");
  WaitForGpu();
  for (int64_t i = 0; i < problem.out.count(); ++i) {
    const double expected = double{plain.out[i]} + bias[i % c.out_features];
    ASSERT_NEAR(
        problem.out[i], expected,
        2 * UnitRoundoff(GetParam().out_dtype) * (std::abs(plain.out[i]) + std::abs(expected)) +
            1e-5);
  }
}
#endif

TEST_P(MatmulTypes, AddsTheBiasToEveryRow) {
  if (GetParam().dtype != GetParam().out_dtype) GTEST_SKIP() << "no bias for this";
  for (const MatmulCase& c :
       {MatmulCase{1, 7, 16}, MatmulCase{5, 33, 64}, MatmulCase{130, 64, 48}}) {
    SCOPED_TRACE(testing::Message() << c.rows << "x" << c.out_features << "x" << c.in_features);
    Problem plain(c, GetParam().dtype, GetParam().out_dtype);
    const HostArray bias = HostArray::Random(GetParam().dtype, c.out_features, 3, -3.0f, 3.0f);
    MatmulRef(plain.weight(), plain.params());
    CpuMatmul packed(plain.weight());
    for (const bool reference : {true, false}) {
      Problem problem(c, GetParam().dtype, GetParam().out_dtype);
      MatmulParams params = problem.params();
      params.bias = bias.data();
      reference ? MatmulRef(problem.weight(), params) : packed.Run(params);
      for (int64_t i = 0; i < problem.out.count(); ++i) {
        const double expected = double{plain.out[i]} + bias[i % c.out_features];
        const double tolerance =
            2 * UnitRoundoff(GetParam().out_dtype) * (std::abs(plain.out[i]) + std::abs(expected)) +
            SumTolerance(c.in_features + 1, c.in_features + 3.0);
        ASSERT_NEAR(problem.out[i], expected, tolerance)
            << (reference ? "ref" : "cpu") << " at " << i;
      }
    }
  }
}

// With and without a bias beside it.
TEST_P(MatmulTypes, AccumulatesOntoWhatIsThere) {
  if (GetParam().dtype != GetParam().out_dtype) GTEST_SKIP() << "no bias for this";
  for (const MatmulCase& c :
       {MatmulCase{1, 7, 16}, MatmulCase{5, 33, 64}, MatmulCase{130, 64, 48}}) {
    SCOPED_TRACE(testing::Message() << c.rows << "x" << c.out_features << "x" << c.in_features);
    const HostArray bias = HostArray::Random(GetParam().dtype, c.out_features, 3, -3.0f, 3.0f);
    const HostArray before =
        HostArray::Random(GetParam().out_dtype, c.rows * c.out_features, 4, -3.0f, 3.0f);
    for (const bool has_bias : {false, true}) {
      for (const char* how : Implementations()) {
        SCOPED_TRACE(testing::Message() << how << (has_bias ? " with bias" : ""));
        Problem plain(c, GetParam().dtype, GetParam().out_dtype), problem = plain;
        MatmulParams params = plain.params();
        if (has_bias) params.bias = bias.data();
        MatmulRef(plain.weight(), params);
        for (int64_t i = 0; i < before.count(); ++i) problem.out.Set(i, before[i]);
        params.out = problem.out.data();
        params.accumulate = true;
        RunOn(how, problem.weight(), params);
        for (int64_t i = 0; i < problem.out.count(); ++i) {
          const double expected = double{plain.out[i]} + before[i];
          const double tolerance = 2 * UnitRoundoff(GetParam().out_dtype) *
                                       (std::abs(plain.out[i]) + std::abs(expected)) +
                                   SumTolerance(c.in_features + 2, c.in_features + 6.0);
          ASSERT_NEAR(problem.out[i], expected, tolerance) << "at " << i;
        }
      }
    }
  }
}

TEST_P(MatmulTypes, PackedEqualsSumsInDouble) {
  for (const MatmulCase& c : MatmulTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << "x" << c.out_features << "x" << c.in_features << "/" << c.stride());
    Problem problem(c, GetParam().dtype, GetParam().out_dtype);
    CpuMatmul matmul(problem.weight());
    EXPECT_EQ(matmul.out_features(), c.out_features);
    EXPECT_EQ(matmul.in_features(), c.in_features);
    matmul.Run(problem.params());
    problem.Check();
  }
}

TEST_P(MatmulTypes, WeightMayGoOncePacked) {
  Problem problem({9, 48, 32}, GetParam().dtype, GetParam().out_dtype);
  HostArray copy = problem.w;
  CpuMatmul matmul({copy.data(), GetParam().dtype, 48, 32});
  for (int64_t i = 0; i < copy.count(); ++i) copy.Set(i, NAN);
  matmul.Run(problem.params());
  problem.Check();
}

TEST_P(MatmulTypes, MoreRowCountsThanPrimitivesAreKept) {
  const Types types = GetParam();
  Problem shape({1, 40, 24}, types.dtype, types.out_dtype);
  CpuMatmul matmul(shape.weight());
  for (int pass = 0; pass < 2; ++pass) {
    for (int64_t rows = 1; rows <= 40; ++rows) {
      Problem problem({rows, 40, 24}, types.dtype, types.out_dtype);
      matmul.Run(problem.params());
      problem.Check();
    }
  }
}

// The weight is packed by one thread, and a primitive made by the second is used by the third,
// whose OpenMP team is larger.
TEST_P(MatmulTypes, MovesBetweenThreadsAndTeamSizes) {
  Problem problem({100, 256, 192}, GetParam().dtype, GetParam().out_dtype);
  CpuMatmul matmul(problem.weight());
  for (const int team : {1, 3, 1, 2}) {
    std::thread([&] {
      omp_set_num_threads(team);
      problem.out = HostArray(GetParam().out_dtype, problem.out.count());
      matmul.Run(problem.params());
    }).join();
    problem.Check();
  }
}

TEST_P(MatmulTypes, RanksMultiplyAtTheSameTime) {
  constexpr int kRanks = 4;
  std::vector<std::thread> ranks;
  std::vector<std::unique_ptr<Problem>> problems;
  for (int rank = 0; rank < kRanks; ++rank) {
    problems.push_back(std::make_unique<Problem>(MatmulCase{64 + rank, 128, 96 + 32 * rank},
                                                 GetParam().dtype, GetParam().out_dtype));
  }
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&problem = *problems[rank], rank] {
      omp_set_num_threads(1 + rank % 2);
      CpuMatmul matmul(problem.weight());
      for (int i = 0; i < 20; ++i) matmul.Run(problem.params());
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const auto& problem : problems) problem->Check();
}

INSTANTIATE_TEST_SUITE_P(All, MatmulTypes,
                         ::testing::Values(Types{DType::kF32, DType::kF32},
                                           Types{DType::kBf16, DType::kF32},
                                           Types{DType::kBf16, DType::kBf16}),
                         [](const auto& info) {
                           return std::string(DTypeName(info.param.dtype)) + "_to_" +
                                  DTypeName(info.param.out_dtype);
                         });

TEST(CpuMatmulTest, NoRowsTouchNothing) {
  Problem problem({1, 8, 8}, DType::kF32, DType::kF32);
  CpuMatmul matmul(problem.weight());
  matmul.Run({.x = nullptr, .out = nullptr, .rows = 0, .x_stride = 8});
}

TEST(CpuMatmulTest, OneWeightServesBothOutputTypes) {
  if (!CpuHasBf16()) GTEST_SKIP() << "no bf16 instructions here";
  Problem problem({20, 48, 32}, DType::kBf16, DType::kF32);
  CpuMatmul matmul(problem.weight());
  for (const DType out_dtype : {DType::kF32, DType::kBf16, DType::kF32}) {
    problem.out = HostArray(out_dtype, problem.out.count());
    matmul.Run(problem.params());
    problem.Check();
  }
}

// 1 + 2^−20 needs a float's digits; bf16 or tf32 inside would give 1.
TEST(CpuMatmulTest, F32IsNotShortenedInside) {
  HostArray x(DType::kF32, 64 * 32), w(DType::kF32, 32 * 32), out(DType::kF32, 64 * 32);
  for (int64_t i = 0; i < x.count(); ++i) x.Set(i, 1.0f + 0x1p-20f);
  for (int64_t i = 0; i < w.count(); ++i) w.Set(i, i / 32 == i % 32 ? 1.0f : 0.0f);
  CpuMatmul({w.data(), DType::kF32, 32, 32}).Run({x.data(), out.data(), 64, 32, DType::kF32});
  for (int64_t i = 0; i < out.count(); ++i) ASSERT_EQ(out[i], 1.0f + 0x1p-20f);
}

// 256 + 255 products of 2^−8: a sum kept in bf16 stays at 256.
TEST(CpuMatmulTest, Bf16AccumulatesInF32) {
  if (!CpuHasBf16()) GTEST_SKIP() << "no bf16 instructions here";
  HostArray x(DType::kBf16, 16 * 256), w(DType::kBf16, 16 * 256), out(DType::kF32, 16 * 16);
  for (int64_t i = 0; i < x.count(); ++i) x.Set(i, i % 256 == 0 ? 256.0f : 0x1p-8f);
  for (int64_t i = 0; i < w.count(); ++i) w.Set(i, 1.0f);
  CpuMatmul({w.data(), DType::kBf16, 16, 256}).Run({x.data(), out.data(), 16, 256, DType::kF32});
  for (int64_t i = 0; i < out.count(); ++i) ASSERT_EQ(out[i], 256.0f + 255.0f / 256.0f);
}

}  // namespace
}  // namespace winnow
