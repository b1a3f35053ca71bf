#include "engine/model/random_tensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace winnow {
namespace {

std::vector<float> Floats(const std::vector<std::byte>& bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TensorPart Part(const std::string& name, int64_t num_rows, int64_t num_columns, Range rows,
                Range columns = {}) {
  return {.name = name,
          .num_rows = num_rows,
          .num_columns = num_columns,
          .rows = rows,
          .columns = columns};
}

std::vector<float> Matrix(const std::string& name, Range rows, Range columns) {
  RandomTensors tensors;
  std::vector<std::byte> out;
  EXPECT_TRUE(tensors.Append(Part(name, 64, 48, rows, columns), DType::kF32, out).ok());
  EXPECT_EQ(tensors.bytes_read(), rows.count * columns.count * 4);
  return Floats(out);
}

TEST(RandomTensorsTest, APartIsThatPartOfTheWhole) {
  const std::vector<float> whole = Matrix("w", {0, 64}, {0, 48});
  const std::vector<float> part = Matrix("w", {10, 5}, {7, 20});
  for (int row = 0; row < 5; ++row) {
    for (int column = 0; column < 20; ++column) {
      EXPECT_EQ(part[row * 20 + column], whole[(10 + row) * 48 + 7 + column]);
    }
  }
  EXPECT_NE(whole, Matrix("another", {0, 64}, {0, 48}));
}

TEST(RandomTensorsTest, HasTheDeviationOfFreshModels) {
  const std::vector<float> values = Matrix("w", {0, 64}, {0, 48});
  double sum = 0, squares = 0;
  for (const float x : values) sum += x, squares += double{x} * x;
  EXPECT_NEAR(sum / static_cast<double>(values.size()), 0.0, 0.002);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(values.size())), 0.02, 0.001);
}

TEST(RandomTensorsTest, NormsAreNearOne) {
  RandomTensors tensors;
  std::vector<std::byte> norm, bias;
  ASSERT_TRUE(tensors.Append(Part("model.norm.weight", 100, 0, {0, 100}), DType::kF32, norm).ok());
  ASSERT_TRUE(tensors.Append(Part("q_proj.bias", 100, 0, {20, 30}), DType::kF32, bias).ok());
  for (const float x : Floats(norm)) EXPECT_NEAR(x, 1.0f, 0.05f);
  ASSERT_EQ(Floats(bias).size(), 30u);
  for (const float x : Floats(bias)) EXPECT_NEAR(x, 0.0f, 0.05f);
}

TEST(RandomTensorsTest, Bf16IsTheFloatRounded) {
  RandomTensors tensors;
  std::vector<std::byte> a, b;
  ASSERT_TRUE(tensors.Append(Part("w", 8, 8, {0, 8}, {0, 8}), DType::kF32, a).ok());
  ASSERT_TRUE(tensors.Append(Part("w", 8, 8, {0, 8}, {0, 8}), DType::kBf16, b).ok());
  const std::vector<float> floats = Floats(a);
  for (size_t i = 0; i < floats.size(); ++i) {
    Bf16 got;
    std::memcpy(&got, b.data() + 2 * i, 2);
    EXPECT_EQ(got.bits, ToBf16(floats[i]).bits);
  }
}

}  // namespace
}  // namespace winnow
