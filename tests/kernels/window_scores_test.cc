#include "kernels/window_scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/kernels/attention_oracle.h"
#include "tests/kernels/host_array.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif
#include "tests/kernels/window_scores_cases.h"

namespace winnow {
namespace {

struct Problem {
  Problem(const WindowScoresCase& c, DType dtype)
      : size(c),
        q(HostArray::Random(dtype, int64_t{c.q_heads} * c.window * c.head_dim, 1, -3.0f, 3.0f)),
        k(HostArray::Random(dtype, c.kv_heads * c.capacity() * c.head_dim, 2, -3.0f, 3.0f)),
        scores(DType::kF32, c.kv_heads * c.window_begin) {
    for (int u = 0; u < c.kv_heads; ++u) {
      for (int64_t j = c.window_begin + c.window; j < c.capacity(); ++j) {
        for (int i = 0; i < c.head_dim; ++i) k.Set(KeyAt(u, j) + i, NAN);
      }
    }
  }

  int64_t KeyAt(int u, int64_t j) const { return (u * size.capacity() + j) * size.head_dim; }
  WindowScoresParams params() {
    return {.q = q.data(),
            .k = k.data(),
            .scores = static_cast<float*>(scores.data()),
            .dtype = q.dtype(),
            .window_begin = size.window_begin,
            .capacity = size.capacity(),
            .window = size.window,
            .pool_kernel = size.pool_kernel,
            .q_heads = size.q_heads,
            .kv_heads = size.kv_heads,
            .head_dim = size.head_dim};
  }

  // A window row's attention in double.
  AttentionOracle Row(int head, int row) const {
    const int64_t query = (int64_t{head} * size.window + row) * size.head_dim;
    const int kv_head = head / (size.q_heads / size.kv_heads);
    return AttendInDouble(
        size.head_dim, size.window_begin + row + 1, [&](int c) { return q[query + c]; },
        [&](int64_t j, int c) { return k[KeyAt(kv_head, j) + c]; },
        [](int64_t, int) { return 0.0; }, {});
  }
  // Logarithms of the denominators, where a stride of one more than the window puts them.
  HostArray Denominators() const {
    HostArray lse(DType::kF32, int64_t{size.q_heads} * (size.window + 1));
    for (int h = 0; h < size.q_heads; ++h) {
      for (int i = 0; i < size.window; ++i) {
        lse.Set(int64_t{h} * (size.window + 1) + i, static_cast<float>(Row(h, i).lse));
      }
    }
    return lse;
  }

  // Steps 1 to 4 in double.
  void Check() const {
    EXPECT_TRUE(scores.GuardsIntact());
    const int group = size.q_heads / size.kv_heads;
    const int64_t reach = (size.pool_kernel - 1) / 2;
    for (int u = 0; u < size.kv_heads; ++u) {
      std::vector<double> a(size.window_begin);  // of the whole group: pooling is linear
      double relative = 0;
      for (int g = 0; g < group; ++g) {
        for (int i = 0; i < size.window; ++i) {
          const AttentionOracle row = Row(u * group + g, i);
          for (int64_t j = 0; j < size.window_begin; ++j) a[j] += row.weights[j];
          relative = std::max(relative, row.weight_tolerance);
        }
      }
      // Sums without cancellation: over the window, the pool and the group, then a division.
      relative += SumTolerance(int64_t{group} * (size.window + size.pool_kernel), 1.0) + 0x1p-23;
      for (int64_t j = 0; j < size.window_begin; ++j) {
        double expected = 0;
        for (int64_t t = std::max<int64_t>(0, j - reach);
             t <= std::min(size.window_begin - 1, j + reach); ++t) {
          expected += a[t] / size.pool_kernel;
        }
        ASSERT_NEAR(scores[u * size.window_begin + j], expected, relative * expected + 1e-30)
            << "kv head " << u << " position " << j;
      }
    }
  }

  WindowScoresCase size;
  HostArray q, k, scores;
};

struct Implementation {
  const char* name;
  void (*run)(const WindowScoresParams&);
  void (*gather)(const GatherWindowParams&);
  DType dtype;
};
class WindowScoresTest : public ::testing::TestWithParam<Implementation> {};

TEST_P(WindowScoresTest, EqualsTheFormulaInDouble) {
  for (const WindowScoresCase& c : WindowScoresTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << "E " << c.window_begin << ", W " << c.window << ", pool " << c.pool_kernel
                 << ", heads " << c.q_heads << "/" << c.kv_heads << " x " << c.head_dim);
    Problem problem(c, GetParam().dtype);
    GetParam().run(problem.params());
    problem.Check();
    if (HasFatalFailure()) return;
  }
}

TEST_P(WindowScoresTest, MayTakeTheDenominatorsFromAttention) {
  for (const WindowScoresCase& c : WindowScoresTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << "E " << c.window_begin << ", W " << c.window << ", pool " << c.pool_kernel
                 << ", heads " << c.q_heads << "/" << c.kv_heads << " x " << c.head_dim);
    Problem problem(c, GetParam().dtype);
    const HostArray lse = problem.Denominators();
    WindowScoresParams params = problem.params();
    params.lse = static_cast<const float*>(lse.data());
    params.lse_stride = c.window + 1;
    GetParam().run(params);
    problem.Check();
    if (HasFatalFailure()) return;
  }
}

// Each row's weights over all its keys sum to one; what falls on the window itself is dropped.
TEST_P(WindowScoresTest, WeightsThatFallOnTheWindowAreDropped) {
  Problem problem({100, 4, 1, 2, 1, 64}, GetParam().dtype);
  for (int64_t i = 0; i < problem.q.count(); ++i) problem.q.Set(i, 0.0f);
  GetParam().run(problem.params());
  double expected = 0;
  for (int i = 0; i < 4; ++i) expected += 2.0 / (101 + i);
  for (int64_t j = 0; j < 100; ++j) EXPECT_NEAR(problem.scores[j], expected, 1e-6 * expected);
}

TEST_P(WindowScoresTest, NanOfAKeyReachesItsHeadsScoresOnly) {
  Problem problem({200, 8, 7, 4, 2, 64}, GetParam().dtype);
  problem.k.Set(problem.KeyAt(1, 150) + 9, NAN);
  GetParam().run(problem.params());
  for (int64_t j = 0; j < 200; ++j) {
    EXPECT_FALSE(std::isnan(problem.scores[j])) << j;
    EXPECT_TRUE(std::isnan(problem.scores[200 + j])) << j;
  }
}

TEST_P(WindowScoresTest, GatherKeepsTheWindowsRowsHeadMajor) {
  const DType dtype = GetParam().dtype;
  const int window = 8, heads = 3, head_dim = 20;
  const int64_t stride = 70, rows = 3, window_row = 4;
  const HostArray q = HostArray::Random(dtype, rows * stride, 1);
  HostArray out(dtype, heads * window * head_dim);
  GetParam().gather({.q = q.data(),
                     .out = out.data(),
                     .dtype = dtype,
                     .rows = rows,
                     .q_stride = stride,
                     .window_row = window_row,
                     .window = window,
                     .q_heads = heads,
                     .head_dim = head_dim});
  EXPECT_TRUE(out.GuardsIntact());
  for (int h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < window; ++i) {
      for (int c = 0; c < head_dim; ++c) {
        const int64_t at = (h * window + i) * head_dim + c;
        if (i < window_row || i >= window_row + rows) {
          ASSERT_TRUE(out.IsUntouched(at));
        } else {
          ASSERT_EQ(out[at], q[(i - window_row) * stride + h * head_dim + c]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, WindowScoresTest,
    ::testing::Values(Implementation{"ref", WindowScoresRef, GatherWindowRef, DType::kF32},
                      Implementation{"ref", WindowScoresRef, GatherWindowRef, DType::kBf16},
                      Implementation{"cpu", WindowScoresCpu, GatherWindowCpu, DType::kF32},
                      Implementation{"cpu", WindowScoresCpu, GatherWindowCpu, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, WindowScoresTest,
    ::testing::Values(Implementation{"cuda", WindowScoresOnGpu,
                                     OnGpu<GatherWindowParams, GatherWindowCuda>, DType::kF32},
                      Implementation{"cuda", WindowScoresOnGpu,
                                     OnGpu<GatherWindowParams, GatherWindowCuda>, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

}  // namespace
}  // namespace winnow
