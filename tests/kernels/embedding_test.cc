#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/kernels/embedding_cases.h"
#include "tests/kernels/host_array.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Implementation {
  const char* name;
  void (*run)(const EmbeddingParams&);
  DType dtype;
};
class EmbeddingTest : public ::testing::TestWithParam<Implementation> {};

TEST_P(EmbeddingTest, CopiesRowsOfItsShardAndZeroesTheOthers) {
  const auto [name, run, dtype] = GetParam();
  for (const EmbeddingCase& c : EmbeddingTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.rows << "x" << c.hidden << " shard from " << c.shard_begin);
    const HostArray table = HostArray::Random(dtype, c.shard_rows * c.hidden, 1);
    const int64_t shard_end = c.shard_begin + c.shard_rows;
    std::vector<int32_t> ids;  // both sides of both ends of the shard, then all over the vocabulary
    for (const int64_t id : {c.shard_begin, shard_end - 1, c.shard_begin - 1, shard_end}) {
      ids.push_back(static_cast<int32_t>(std::clamp<int64_t>(id, 0, c.vocabulary - 1)));
    }
    for (int64_t i = 4; i < c.rows; ++i) ids.push_back(static_cast<int32_t>(7 * i % c.vocabulary));
    HostArray out(dtype, c.rows * c.hidden);
    run({ids.data(), table.data(), out.data(), dtype, c.rows, c.hidden, c.shard_begin,
         c.shard_rows});
    EXPECT_TRUE(out.GuardsIntact());
    for (int64_t i = 0; i < out.count(); ++i) {
      const int64_t local = ids[i / c.hidden] - c.shard_begin;
      const bool held = local >= 0 && local < c.shard_rows;
      ASSERT_EQ(out[i], held ? table[local * c.hidden + i % c.hidden] : 0.0f) << "element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EmbeddingTest,
                         ::testing::Values(Implementation{"ref", EmbeddingRef, DType::kF32},
                                           Implementation{"ref", EmbeddingRef, DType::kBf16},
                                           Implementation{"cpu", EmbeddingCpu, DType::kF32},
                                           Implementation{"cpu", EmbeddingCpu, DType::kBf16}),
                         [](const auto& info) {
                           return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
                         });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, EmbeddingTest,
    ::testing::Values(Implementation{"cuda", OnGpu<EmbeddingParams, EmbeddingCuda>, DType::kF32},
                      Implementation{"cuda", OnGpu<EmbeddingParams, EmbeddingCuda>, DType::kBf16}),
    [](const auto& info) {
      return std::string(info.param.name) + "_" + DTypeName(info.param.dtype);
    });
#endif

}  // namespace
}  // namespace winnow
