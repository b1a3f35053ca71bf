#include "kernels/gather_rows.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/kernels/gather_rows_cases.h"
#ifdef WINNOW_CUDA
#include "tests/kernels/on_gpu.h"
#endif

namespace winnow {
namespace {

struct Implementation {
  const char* name;
  void (*run)(const GatherRowsParams&);
};
class GatherRowsTest : public ::testing::TestWithParam<Implementation> {};

TEST_P(GatherRowsTest, CopiesTheIndexedRowsOfEachHeadAndNothingElse) {
  for (const GatherRowsCase& c : GatherRowsTestCases()) {
    SCOPED_TRACE(testing::Message()
                 << c.heads << " heads, " << c.rows << " rows of " << c.row_bytes << " bytes");
    const int64_t in_stride = c.in_rows * c.row_bytes + c.padding,
                  out_stride = c.rows * c.row_bytes + c.padding;
    std::mt19937 random(1);
    std::vector<uint8_t> in(c.heads * in_stride), out(c.heads * out_stride, 0xA5);
    for (uint8_t& byte : in) byte = static_cast<uint8_t>(random());
    const int64_t index_stride = c.shared_index ? 0 : c.rows;
    std::vector<int32_t> index((c.shared_index ? 1 : c.heads) * c.rows);
    for (int32_t& i : index) i = static_cast<int32_t>(random() % c.in_rows);

    GetParam().run({in.data(), out.data(), index.data(), c.rows, c.row_bytes, in_stride, out_stride,
                    index_stride, c.heads});

    std::vector<uint8_t> expected(out.size(), 0xA5);
    for (int h = 0; h < c.heads; ++h) {
      for (int64_t byte = 0; byte < c.rows * c.row_bytes; ++byte) {
        const int64_t from = index[h * index_stride + byte / c.row_bytes];
        expected[h * out_stride + byte] =
            in[h * in_stride + from * c.row_bytes + byte % c.row_bytes];
      }
    }
    EXPECT_EQ(out, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GatherRowsTest,
                         ::testing::Values(Implementation{"ref", GatherRowsRef},
                                           Implementation{"cpu", GatherRowsCpu}),
                         [](const auto& info) { return std::string(info.param.name); });

#ifdef WINNOW_CUDA
INSTANTIATE_TEST_SUITE_P(Gpu, GatherRowsTest,
                         ::testing::Values(Implementation{"cuda",
                                                          OnGpu<GatherRowsParams, GatherRowsCuda>}),
                         [](const auto& info) { return std::string(info.param.name); });
#endif

}  // namespace
}  // namespace winnow
