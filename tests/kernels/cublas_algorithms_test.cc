#include "kernels/cublas_algorithms.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace winnow {
namespace {

CublasAlgorithmTable::Entry Entry(int64_t rows, uint64_t mark) {
  return {"NVIDIA_H100",
          130000,
          {DType::kBf16, DType::kBf16, true, rows, 4096, 14336},
          {mark, 0, ~uint64_t{0}, 7, 0, 0, 0, 1}};
}

TEST(CublasAlgorithmTableTest, ReadsBackWhatWasWritten) {
  CublasAlgorithmTable::Entry other = Entry(64, 5);
  other.product.out_dtype = DType::kF32;
  other.product.accumulates = false;
  const CublasAlgorithmTable table(FormatCublasAlgorithms({Entry(512, 1), other}));
  ASSERT_EQ(table.entries().size(), 2u);
  EXPECT_EQ(table.entries()[0].gpu, "NVIDIA_H100");
  EXPECT_EQ(table.entries()[0].product, Entry(512, 1).product);
  EXPECT_EQ(table.entries()[0].algorithm, Entry(512, 1).algorithm);
  EXPECT_EQ(table.entries()[1].product, other.product);
}

TEST(CublasAlgorithmTableTest, TakesTheNextMoreRowsWithinAThirdElseFewer) {
  const CublasAlgorithmTable table(
      FormatCublasAlgorithms({Entry(512, 1), Entry(768, 2), Entry(4096, 3)}));
  const auto mark = [&](int64_t rows) -> uint64_t {
    const CublasAlgorithm* found = table.Find("NVIDIA_H100", 130000, Entry(rows, 0).product);
    return found == nullptr ? 0 : (*found)[0];
  };
  EXPECT_EQ(mark(512), 1u);
  EXPECT_EQ(mark(385), 1u);
  EXPECT_EQ(mark(513), 1u);
  EXPECT_EQ(mark(640), 2u);
  EXPECT_EQ(mark(1000), 2u);
  EXPECT_EQ(mark(1100), 0u);
  EXPECT_EQ(mark(300), 0u);
  EXPECT_EQ(mark(5000), 3u);
}

TEST(CublasAlgorithmTableTest, AnotherGpuVersionOrProductHasNone) {
  const CublasAlgorithmTable table(FormatCublasAlgorithms({Entry(512, 1)}));
  const MatmulClass product = Entry(512, 1).product;
  EXPECT_NE(table.Find("NVIDIA_H100", 130000, product), nullptr);
  EXPECT_EQ(table.Find("NVIDIA_H200", 130000, product), nullptr);
  EXPECT_EQ(table.Find("NVIDIA_H100", 130001, product), nullptr);
  MatmulClass other = product;
  other.accumulates = false;
  EXPECT_EQ(table.Find("NVIDIA_H100", 130000, other), nullptr);
  other = product;
  other.in_features = 1;
  EXPECT_EQ(table.Find("NVIDIA_H100", 130000, other), nullptr);
}

// Every line of the table that is built in is one entry: none was left out as unreadable.
TEST(CublasAlgorithmTableTest, TheBuiltInTableIsWhole) {
  std::ifstream table(std::string(WINNOW_SOURCE_DIR) + "/kernels/cublas_algorithms.inc");
  size_t num_lines = 0;
  for (std::string line; std::getline(table, line);) {
    num_lines += line.find(' ') != std::string::npos;  // the quotes' lines have none
  }
  EXPECT_GT(num_lines, 0u);
  EXPECT_EQ(CublasAlgorithmTable::BuiltIn().entries().size(), num_lines);
}

TEST(CublasAlgorithmTableTest, BrokenLinesAreLeftOut) {
  EXPECT_TRUE(CublasAlgorithmTable("").entries().empty());
  EXPECT_TRUE(CublasAlgorithmTable("H100 1 bf16 bf16 0 512 10\nx\n\n").entries().empty());
  EXPECT_TRUE(CublasAlgorithmTable("H100 1 f64 bf16 0 1 1 1 0 0 0 0 0 0 0 0").entries().empty());
}

}  // namespace
}  // namespace winnow
