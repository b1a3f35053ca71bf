#include "plan/kv_plan.h"

#include <gtest/gtest.h>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

KvPlan ThreeSegments() {
  KvPlan plan = EmptyKvPlan(DemoShape(), 1000);
  plan.segments = {
      {2, KvForm::kAll, 1000}, {4, KvForm::kPerHead, 300}, {6, KvForm::kSelected, 100}};
  return plan;
}

TEST(KvPlanTest, ALayerHasTheFormOfItsSegment) {
  const KvPlan plan = ThreeSegments();
  for (int layer = 0; layer < 12; ++layer) {
    const int segment = layer < 2 ? 0 : layer < 6 ? 1 : 2;
    EXPECT_EQ(plan.segment(layer), plan.segments[segment]) << layer;
    EXPECT_EQ(plan.entries(layer), plan.segments[segment].entries) << layer;
    EXPECT_EQ(plan.position_rows(layer), std::vector<int>({0, 4, 1})[segment]) << layer;
  }
}

TEST(KvPlanTest, PayloadIsKAndVOfEverySegment) {
  const KvPlan plan = ThreeSegments();
  EXPECT_EQ(plan.payload_bytes(2), (2 * 1000 + 4 * 300 + 6 * 100) * 4 * 2 * 64 * 2);
  EXPECT_EQ(plan.full_payload_bytes(2), 12 * 1000 * 4 * 2 * 64 * 2);
}

TEST(KvPlanTest, AnEmptyPlanPromisesNoTail) {
  const KvPlan plan = EmptyKvPlan(DemoShape(), 1000);
  EXPECT_EQ(plan.tail_begin, 1000);
  EXPECT_EQ(plan.next_position, 1000);
  EXPECT_TRUE(plan.segments.empty());
}

}  // namespace
}  // namespace winnow
