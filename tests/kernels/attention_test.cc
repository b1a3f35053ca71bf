#include "kernels/attention.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <string>

#include "kernels/attention_blocked.h"
#include "tests/kernels/attention_cases.h"
#include "tests/kernels/attention_oracle.h"
#include "tests/kernels/host_array.h"
#ifdef WINNOW_CUDA
#include "kernels/attention_sm80.h"
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Problem {
  Problem(const AttentionCase& c, DType dtype, float low = -2.0f, float high = 2.0f)
      : size(c),
        q(HostArray::Random(dtype, c.rows * c.q_stride(), 1, low, high)),
        k(HostArray::Random(dtype, c.kv_heads * c.capacity() * c.head_dim, 2, low, high)),
        v(HostArray::Random(dtype, c.kv_heads * c.capacity() * c.head_dim, 3, low, high)),
        out(dtype, c.rows * c.q_heads * c.head_dim),
        lse(DType::kF32, has_lse() ? c.q_heads * (c.rows - c.lse_begin) : 0) {
    // What no row sees may hold anything.
    for (int u = 0; u < c.kv_heads; ++u) {
      for (int64_t j = c.keys(); j < c.capacity(); ++j) SetKey(u, j, NAN, NAN);
    }
  }

  bool has_lse() const { return size.lse_begin >= 0; }
  int64_t KeyAt(int u, int64_t j) const { return (u * size.capacity() + j) * size.head_dim; }
  void SetKey(int u, int64_t j, float key, float value) {
    for (int c = 0; c < size.head_dim; ++c) {
      k.Set(KeyAt(u, j) + c, key);
      v.Set(KeyAt(u, j) + c, value);
    }
  }
  float Out(int64_t row, int h, int c) const {
    return out[(row * size.q_heads + h) * size.head_dim + c];
  }
  AttentionParams params() {
    return {.q = q.data(),
            .k = k.data(),
            .v = v.data(),
            .out = out.data(),
            .positions = size.positions.empty() ? nullptr : size.positions.data(),
            .dtype = q.dtype(),
            .rows = size.rows,
            .q_stride = size.q_stride(),
            .capacity = size.capacity(),
            .first_visible = size.first_visible,
            .q_heads = size.q_heads,
            .kv_heads = size.kv_heads,
            .head_dim = size.head_dim,
            .lse = has_lse() ? static_cast<float*>(lse.data()) : nullptr,
            .lse_begin = has_lse() ? size.lse_begin : 0};
  }

  AttentionOracle Expected(int64_t row, int h, AttentionPrecision precision) const {
    const int u = h / (size.q_heads / size.kv_heads);
    return AttendInDouble(
        size.head_dim, size.visible(row),
        [&](int c) { return q[row * size.q_stride() + int64_t{h} * size.head_dim + c]; },
        [&](int64_t j, int c) { return k[KeyAt(u, j) + c]; },
        [&](int64_t j, int c) { return v[KeyAt(u, j) + c]; }, precision);
  }

  void Check(AttentionPrecision precision) const {
    EXPECT_TRUE(out.GuardsIntact());
    EXPECT_TRUE(lse.GuardsIntact());
    for (int64_t row = 0; row < size.rows; ++row) {
      for (int h = 0; h < size.q_heads; ++h) {
        const AttentionOracle expected = Expected(row, h, precision);
        for (int c = 0; c < size.head_dim; ++c) {
          const double tolerance =
              expected.tolerance[c] + UnitRoundoff(out.dtype()) * std::abs(expected.out[c]);
          if (!(std::abs(Out(row, h, c) - expected.out[c]) <= tolerance)) {
            FAIL() << "row " << row << " head " << h << " column " << c << ": expected "
                   << expected.out[c] << " ± " << tolerance << ", got " << Out(row, h, c);
          }
        }
        if (!has_lse() || row < size.lse_begin) continue;
        const float got = lse[h * (size.rows - size.lse_begin) + row - size.lse_begin];
        ASSERT_NEAR(got, expected.lse, expected.lse_tolerance) << "row " << row << " head " << h;
      }
    }
  }

  AttentionCase size;
  HostArray q, k, v, out, lse;
};

template <typename T, typename Packed, const AttentionArch<T, Packed>& kArch>
void RunArch(const AttentionParams& p) {
  BlockedAttention<T, Packed>(p, kArch).Run();
}
bool Always() { return true; }

struct Implementation {
  const char* name;
  void (*run)(const AttentionParams&);
  DType dtype;
  AttentionPrecision precision;
  bool (*available)();
};
class AttentionTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    if (!GetParam().available()) GTEST_SKIP() << "the processor lacks the instructions";
  }
  void TearDown() override { omp_set_num_threads(threads_); }

  const int threads_ = omp_get_max_threads();
};

TEST_P(AttentionTest, EqualsSoftmaxInDouble) {
  for (const AttentionCase& c : AttentionTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << " rows from " << c.first_visible << " to " << c.keys()
                 << " keys, heads " << c.q_heads << "/" << c.kv_heads << " x " << c.head_dim);
    Problem problem(c, GetParam().dtype);
    GetParam().run(problem.params());
    problem.Check(GetParam().precision);
    if (HasFatalFailure()) return;
  }
}

// Changing what lies from `cut` on moves no bit of the rows that see less, and moves the rows that
// see it.
TEST_P(AttentionTest, ARowSeesExactlyItsKeys) {
  const AttentionCase size{330, 2, 1, 64, 1, {}, 0};
  Problem before(size, GetParam().dtype);
  GetParam().run(before.params());
  for (const int64_t cut : {1, 2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 257, 329}) {
    Problem after = before;
    for (int64_t j = cut; j < size.keys(); ++j) after.SetKey(0, j, 0.0f, 1000.0f);
    GetParam().run(after.params());
    for (int64_t row = 0; row < size.rows; ++row) {
      for (int h = 0; h < size.q_heads; ++h) {
        int changed = 0;
        for (int c = 0; c < size.head_dim; ++c) {
          changed += before.Out(row, h, c) != after.Out(row, h, c);
        }
        ASSERT_EQ(changed > 0, size.visible(row) > cut) << "row " << row << ", cut " << cut;
      }
    }
  }
}

TEST_P(AttentionTest, WritesEveryOutputOnceAndNothingElse) {
  Problem problem({29, 4, 2, 80, 40, {}, 20, 8, 5}, GetParam().dtype);
  const HostArray q = problem.q, k = problem.k;
  GetParam().run(problem.params());
  for (int64_t i = 0; i < problem.out.count(); ++i) ASSERT_FALSE(problem.out.IsUntouched(i)) << i;
  for (int64_t i = 0; i < problem.lse.count(); ++i) ASSERT_FALSE(problem.lse.IsUntouched(i)) << i;
  EXPECT_TRUE(problem.out.GuardsIntact());
  EXPECT_TRUE(problem.lse.GuardsIntact());
  EXPECT_EQ(q, problem.q);
  EXPECT_EQ(k, problem.k);
}

TEST_P(AttentionTest, NoRowsTouchNothing) {
  Problem problem({1, 2, 1, 64}, GetParam().dtype);
  AttentionParams params = problem.params();
  params.rows = 0;
  GetParam().run(params);
  for (int64_t i = 0; i < problem.out.count(); ++i) EXPECT_TRUE(problem.out.IsUntouched(i));
}

// A prompt may be cut into chunks anywhere and run by any number of threads: bit for bit the same.
TEST_P(AttentionTest, ChunksAndThreadsChangeNothing) {
  const AttentionCase size{290, 4, 2, 64};
  Problem whole(size, GetParam().dtype);
  omp_set_num_threads(1);
  GetParam().run(whole.params());
  for (const int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    Problem chunked(size, GetParam().dtype);
    int64_t begin = 0;
    for (const int64_t rows : {1, 5, 24, 3, 97, 160}) {
      AttentionParams params = chunked.params();
      params.q = chunked.q.at(begin * size.q_stride());
      params.out = chunked.out.at(begin * size.q_heads * size.head_dim);
      params.first_visible = begin + 1;
      params.rows = rows;
      GetParam().run(params);
      begin += rows;
    }
    ASSERT_EQ(begin, size.rows);
    EXPECT_EQ(whole.out, chunked.out) << threads << " threads";
  }
}

TEST_P(AttentionTest, ZeroQueriesAverageWhatTheySee) {
  Problem problem({40, 2, 1, 64, 1, {}, 0}, GetParam().dtype);
  for (int64_t i = 0; i < problem.q.count(); ++i) problem.q.Set(i, 0.0f);
  for (int64_t j = 0; j < 40; ++j) problem.SetKey(0, j, 1.0f, static_cast<float>(j));
  GetParam().run(problem.params());
  for (int64_t row = 0; row < 40; ++row) {
    const double mean = static_cast<double>(row) / 2;
    EXPECT_NEAR(problem.Out(row, 1, 7), mean, (UnitRoundoff(GetParam().dtype) + 1e-5) * mean);
    EXPECT_NEAR(problem.lse[40 + row], std::log(row + 1.0), 1e-5);
  }
}

// Scores up to ±5600 rise or fall along the keys: each block raises the maximum, and e^s alone
// would overflow.
TEST_P(AttentionTest, LargeScoresNeitherOverflowNorVanish) {
  for (const float sign : {1.0f, -1.0f}) {
    Problem problem({4, 1, 1, 64, 700, {}, 0}, GetParam().dtype);
    for (int64_t i = 0; i < problem.q.count(); ++i) problem.q.Set(i, 8.0f);
    for (int64_t j = 0; j < 703; ++j) {
      const float key = std::floor(static_cast<float>(j) / 8);  // exact in bf16
      problem.SetKey(0, j, sign * key, static_cast<float>(j % 8));
    }
    GetParam().run(problem.params());
    problem.Check(GetParam().precision);
  }
}

TEST_P(AttentionTest, NanShowsWhereItIsSeen) {
  Problem problem({100, 2, 1, 64, 1, {}, 0}, GetParam().dtype);
  problem.q.Set(97 * problem.size.q_stride() + 64 + 3, NAN);  // row 97, head 1
  problem.k.Set(problem.KeyAt(0, 98) + 5, NAN);
  GetParam().run(problem.params());
  for (int64_t row = 0; row < 100; ++row) {
    for (int h = 0; h < 2; ++h) {
      const bool nan = row >= 98 || (row == 97 && h == 1);
      EXPECT_EQ(std::isnan(problem.Out(row, h, 0)), nan) << row << " " << h;
      EXPECT_EQ(std::isnan(problem.lse[h * 100 + row]), nan) << row << " " << h;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionTest,
    ::testing::Values(
        Implementation{"ref", AttentionRef, DType::kF32, {}, Always},
        Implementation{"ref", AttentionRef, DType::kBf16, {}, Always},
        Implementation{"cpu", AttentionCpu, DType::kF32, {}, Always},
        Implementation{"cpu", AttentionCpu, DType::kBf16, kBf16Weights, Always},
        Implementation{
            "portable", RunArch<float, float, kAttentionPortableF32>, DType::kF32, {}, Always},
        Implementation{
            "portable", RunArch<Bf16, float, kAttentionPortableBf16>, DType::kBf16, {}, Always},
        Implementation{
            "avx512", RunArch<float, float, kAttentionAvx512F32>, DType::kF32, {}, CpuHasAvx512},
        Implementation{"avx512", RunArch<Bf16, Bf16, kAttentionAvx512Bf16>, DType::kBf16,
                       kBf16Weights, CpuHasAvx512Bf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });

#ifdef WINNOW_CUDA
// The kernel that AttentionCuda takes only on GPUs without a better one.
template <int kBlockRows>
void Sm80(const AttentionParams& p, CudaStream stream) {
  AttentionSm80Supports(p) ? AttentionSm80(p, stream, kBlockRows) : AttentionCuda(p, stream);
}

INSTANTIATE_TEST_SUITE_P(
    Gpu, AttentionTest,
    ::testing::Values(
        Implementation{"cuda", OnGpu<AttentionParams, AttentionCuda>, DType::kF32, {}, Always},
        Implementation{"cuda", OnGpu<AttentionParams, AttentionCuda>, DType::kBf16, kBf16Weights,
                       Always},
        Implementation{"sm80", OnGpu<AttentionParams, Sm80<0>>, DType::kBf16, kBf16Weights, Always},
        Implementation{"sm80_64", OnGpu<AttentionParams, Sm80<64>>, DType::kBf16, kBf16Weights,
                       Always},
        Implementation{"sm80_128", OnGpu<AttentionParams, Sm80<128>>, DType::kBf16, kBf16Weights,
                       Always}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

}  // namespace
}  // namespace winnow
