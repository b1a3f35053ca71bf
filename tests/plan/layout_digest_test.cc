#include "plan/layout_digest.h"

#include "gtest/gtest.h"
#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

TEST(LayoutDigestTest, IsSixteenHexDigitsAndRepeats) {
  const std::string digest = LayoutDigest("revision", "bf16", DemoShape(), 500000.0);
  EXPECT_EQ(digest.size(), 16u);
  EXPECT_EQ(digest.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(LayoutDigest("revision", "bf16", DemoShape(), 500000.0), digest);
}

TEST(LayoutDigestTest, DiffersInWhateverTheKvDependsOn) {
  const std::string digest = LayoutDigest("revision", "bf16", DemoShape(), 500000.0);
  EXPECT_NE(LayoutDigest("revision2", "bf16", DemoShape(), 500000.0), digest);
  EXPECT_NE(LayoutDigest("revision", "f32", DemoShape(), 500000.0), digest);
  EXPECT_NE(LayoutDigest("revision", "bf16", DemoShape(), 500000.5),
            digest);  // also in the seventh digit
  for (int ModelShape::*field :
       {&ModelShape::num_layers, &ModelShape::num_kv_heads, &ModelShape::head_dim}) {
    ModelShape other = DemoShape();
    other.*field *= 2;
    EXPECT_NE(LayoutDigest("revision", "bf16", other, 500000.0), digest);
  }
}

TEST(LayoutDigestTest, IgnoresTheContextThatAWorkerAllows) {
  ModelShape shorter = DemoShape();
  shorter.max_context = 100;
  EXPECT_EQ(LayoutDigest("r", "f32", shorter, 1e4), LayoutDigest("r", "f32", DemoShape(), 1e4));
}

}  // namespace
}  // namespace winnow
