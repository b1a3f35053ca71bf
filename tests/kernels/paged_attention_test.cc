#include "kernels/paged_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>

#include "kernels/rope.h"
#include "tests/kernels/attention_oracle.h"
#include "tests/kernels/host_array.h"
#include "tests/kernels/paged_attention_cases.h"
#include "tests/kernels/tolerance.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

// Blocks of a pool, handed out at random; more than needed.
struct Pool {
  Pool(const PagedAttentionCase& c, DType dtype)
      : size(c),
        max_blocks(c.max_blocks()),
        num_blocks(c.batch() * c.max_blocks() + 2),
        k(dtype, elements()),
        v(dtype, elements()),
        table(c.batch() * c.max_blocks()) {
    for (int64_t i = 0; i < elements(); ++i) k.Set(i, NAN), v.Set(i, NAN);
    std::vector<int32_t> free(num_blocks);
    std::iota(free.begin(), free.end(), 0);
    std::mt19937 random(7);
    std::shuffle(free.begin(), free.end(), random);
    std::copy_n(free.begin(), table.size(), table.begin());
  }
  int64_t elements() const {
    return num_blocks * size.kv_heads * size.block_size * int64_t{size.head_dim};
  }
  int64_t At(int64_t sequence, int u, int64_t slot) const {
    const int64_t block = table[sequence * max_blocks + slot / size.block_size];
    return ((block * size.kv_heads + u) * size.block_size + slot % size.block_size) * size.head_dim;
  }

  PagedAttentionCase size;
  int64_t max_blocks;  // counted once: At is called for every element
  int64_t num_blocks;
  HostArray k, v;
  std::vector<int32_t> table;
};

struct Implementation {
  const char* name;
  void (*run)(const PagedAttentionParams&);
  void (*store)(const PagedStoreKvParams&);
  DType dtype;
  AttentionPrecision precision;
};
class PagedAttentionTest : public ::testing::TestWithParam<Implementation> {};

void CheckSequence(const Pool& pool, const HostArray& q, const HostArray& out, int64_t b,
                   AttentionPrecision precision) {
  const PagedAttentionCase& c = pool.size;
  for (int h = 0; h < c.q_heads; ++h) {
    const int u = h / (c.q_heads / c.kv_heads);
    const AttentionOracle expected = AttendInDouble(
        c.head_dim, c.lengths[b],
        [&](int i) { return q[b * c.q_stride() + int64_t{h} * c.head_dim + i]; },
        [&](int64_t j, int i) { return pool.k[pool.At(b, u, j) + i]; },
        [&](int64_t j, int i) { return pool.v[pool.At(b, u, j) + i]; }, precision);
    for (int i = 0; i < c.head_dim; ++i) {
      const double tolerance =
          expected.tolerance[i] + UnitRoundoff(out.dtype()) * std::abs(expected.out[i]);
      ASSERT_NEAR(out[(b * c.q_heads + h) * c.head_dim + i], expected.out[i], tolerance)
          << "sequence " << b << " head " << h << " column " << i;
    }
  }
}

// Everything that belongs to no sequence is NaN, so that reading it shows.
TEST_P(PagedAttentionTest, EqualsSoftmaxInDouble) {
  for (const PagedAttentionCase& c : PagedAttentionTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.batch() << " sequences, blocks of " << c.block_size << ", heads " << c.q_heads
                 << "/" << c.kv_heads << " x " << c.head_dim);
    const DType dtype = GetParam().dtype;
    Pool pool(c, dtype);
    std::mt19937 random(5);
    std::uniform_real_distribution<float> values(-2.0f, 2.0f);
    for (int64_t b = 0; b < c.batch(); ++b) {
      for (int u = 0; u < c.kv_heads; ++u) {
        for (int64_t at = 0; at < int64_t{c.lengths[b]} * c.head_dim; ++at) {
          const int64_t to = pool.At(b, u, at / c.head_dim) + at % c.head_dim;
          pool.k.Set(to, values(random));
          pool.v.Set(to, values(random));
        }
      }
    }
    const HostArray q = HostArray::Random(dtype, c.batch() * c.q_stride(), 1, -2.0f, 2.0f);
    HostArray out(dtype, c.batch() * c.q_heads * c.head_dim);
    GetParam().run({.q = q.data(),
                    .k_blocks = pool.k.data(),
                    .v_blocks = pool.v.data(),
                    .out = out.data(),
                    .block_table = pool.table.data(),
                    .lengths = c.lengths.data(),
                    .dtype = dtype,
                    .batch = c.batch(),
                    .q_stride = c.q_stride(),
                    .table_stride = c.max_blocks(),
                    .block_size = c.block_size,
                    .q_heads = c.q_heads,
                    .kv_heads = c.kv_heads,
                    .head_dim = c.head_dim});
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t b = 0; b < c.batch(); ++b) CheckSequence(pool, q, out, b, GetParam().precision);
    if (HasFatalFailure()) return;
  }
}

// An entry stored in a block equals the one that StoreKv puts into a plain cache; nothing else in
// the pool moves.
TEST_P(PagedAttentionTest, StoresOneRotatedEntryPerSequence) {
  const DType dtype = GetParam().dtype;
  const PagedAttentionCase c{{33, 16, 1}, 16, 4, 2, 64};
  Pool pool(c, dtype);
  const HostArray k = pool.k, v = pool.v;
  const std::vector<int32_t> slots = {32, 15, 0}, positions = {900, 15, 4000};
  std::vector<float> inv_freq(c.head_dim / 2);
  for (int i = 0; i < c.head_dim / 2; ++i) {
    inv_freq[i] = static_cast<float>(std::pow(1e4, -2.0 * i / c.head_dim));
  }
  const HostArray kv = HostArray::Random(dtype, c.batch() * 2 * c.kv_heads * c.head_dim, 9);
  GetParam().store({.kv = kv.data(),
                    .positions = positions.data(),
                    .inv_freq = inv_freq.data(),
                    .k_blocks = pool.k.data(),
                    .v_blocks = pool.v.data(),
                    .block_table = pool.table.data(),
                    .slots = slots.data(),
                    .dtype = dtype,
                    .batch = c.batch(),
                    .table_stride = c.max_blocks(),
                    .block_size = c.block_size,
                    .kv_heads = c.kv_heads,
                    .head_dim = c.head_dim,
                    .scale = 1.25f});
  HostArray expected_k = k, expected_v = v;
  for (int64_t b = 0; b < c.batch(); ++b) {
    HostArray plain_k(dtype, c.kv_heads * c.head_dim), plain_v = plain_k;  // one slot
    StoreKvRef({.kv = kv.at(b * 2 * c.kv_heads * c.head_dim),
                .positions = &positions[b],
                .inv_freq = inv_freq.data(),
                .k_cache = plain_k.data(),
                .v_cache = plain_v.data(),
                .dtype = dtype,
                .rows = 1,
                .capacity = 1,
                .heads = c.kv_heads,
                .head_dim = c.head_dim,
                .scale = 1.25f});
    for (int u = 0; u < c.kv_heads; ++u) {
      for (int i = 0; i < c.head_dim; ++i) {
        expected_k.Set(pool.At(b, u, slots[b]) + i, plain_k[u * c.head_dim + i]);
        expected_v.Set(pool.At(b, u, slots[b]) + i, plain_v[u * c.head_dim + i]);
      }
    }
  }
  // Sines differ in the last places among implementations; what was not written is as it was.
  for (int64_t i = 0; i < k.count(); ++i) {
    if (std::isnan(expected_k[i])) {  // a slot that was not written
      ASSERT_TRUE(std::isnan(pool.k[i])) << i;
    } else {
      const double tolerance = 16 * UnitRoundoff(DType::kF32) + 2 * UnitRoundoff(dtype);
      ASSERT_NEAR(pool.k[i], expected_k[i], tolerance * 1.25 * 2) << i;
    }
  }
  EXPECT_EQ(pool.v, expected_v);
}

INSTANTIATE_TEST_SUITE_P(
    All, PagedAttentionTest,
    ::testing::Values(Implementation{"ref", PagedAttentionRef, PagedStoreKvRef, DType::kF32, {}},
                      Implementation{"ref", PagedAttentionRef, PagedStoreKvRef, DType::kBf16, {}},
                      Implementation{"cpu", PagedAttentionCpu, PagedStoreKvCpu, DType::kF32, {}},
                      Implementation{"cpu", PagedAttentionCpu, PagedStoreKvCpu, DType::kBf16,
                                     kBf16Weights}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, PagedAttentionTest,
    ::testing::Values(Implementation{"cuda",
                                     PagedAttentionOnGpu,
                                     OnGpu<PagedStoreKvParams, PagedStoreKvCuda>,
                                     DType::kF32,
                                     {}},
                      Implementation{"cuda",
                                     PagedAttentionOnGpu,
                                     OnGpu<PagedStoreKvParams, PagedStoreKvCuda>,
                                     DType::kBf16,
                                     {}}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

}  // namespace
}  // namespace winnow
