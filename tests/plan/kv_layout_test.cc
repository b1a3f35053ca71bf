#include "plan/kv_layout.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

// Every byte range that a layout names, as [begin, end).
std::vector<std::pair<int64_t, int64_t>> Ranges(const KvLayout& layout, const KvPlan& plan,
                                                int heads) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    for (int head = 0; head < heads; ++head) {
      for (int64_t slot = 0; slot < layout.slots(layer); ++slot) {
        for (int64_t at :
             {layout.key_offset(layer, head, slot), layout.value_offset(layer, head, slot)}) {
          ranges.push_back({at, at + layout.row_bytes(layer)});
        }
      }
    }
    for (int row = 0; row < layout.position_rows(layer); ++row) {
      for (int64_t slot = 0; slot < layout.slots(layer); ++slot) {
        const int64_t at = layout.positions_offset(layer, row, slot);
        EXPECT_EQ(at % 4, 0);
        ranges.push_back({at, at + 4});
      }
    }
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST(KvLayoutTest, PartsDoNotOverlapAndCoverTheBlock) {
  for (int64_t n : {1, 7, 100, 333}) {
    const KvPlan plan = MakePrefillPlan(DemoShape(), DemoConfig(), n).kv;
    for (int heads : {1, 2, 4}) {
      for (int element : {2, 4}) {
        const KvLayout layout(plan, heads, element);
        const auto ranges = Ranges(layout, plan, heads);
        int64_t end = 0, padding = 0;
        for (const auto& [begin, range_end] : ranges) {
          ASSERT_GE(begin, end) << "overlap at " << begin;
          padding += begin - end;
          end = range_end;
        }
        padding += layout.total_bytes() - end;
        EXPECT_LE(end, layout.total_bytes());
        EXPECT_LT(padding, 64 * plan.num_layers);  // only up to a cache line after each layer
      }
    }
  }
}

TEST(KvLayoutTest, LayersStartOnCacheLines) {
  const KvPlan plan = MakePrefillPlan(DemoShape(), DemoConfig(), 333).kv;
  const KvLayout layout(plan, 3, 2);
  for (int layer = 0; layer < plan.num_layers; ++layer)
    EXPECT_EQ(layout.key_offset(layer, 0, 0) % 64, 0);
}

TEST(KvLayoutTest, HoldsTheFormsPositionRowsForTheRanksHeads) {
  const KvPlan plan = MakePrefillPlan(DemoShape(), DemoConfig(), 333).kv;
  const KvLayout layout(plan, 2, 2);
  EXPECT_EQ(layout.position_rows(1), 0);  // all positions
  EXPECT_EQ(layout.position_rows(2), 2);  // per head
  EXPECT_EQ(layout.position_rows(5), 2);
  EXPECT_EQ(layout.position_rows(6), 1);  // selected
  EXPECT_EQ(layout.slots(1), 333);
  EXPECT_EQ(layout.slots(2), 33);
}

TEST(KvLayoutTest, PayloadOfAllRanksIsThePlansPayload) {
  const KvPlan plan = MakePrefillPlan(DemoShape(), DemoConfig(), 5000).kv;
  int64_t payload = 0;
  for (int rank = 0; rank < 2; ++rank) {
    const KvLayout layout(plan, 2, 2);
    for (int layer = 0; layer < plan.num_layers; ++layer)
      payload += 2 * 2 * layout.slots(layer) * layout.row_bytes(layer);
  }
  EXPECT_EQ(payload, plan.payload_bytes(2));
}

TEST(KvLayoutTest, OffsetsOfLongPromptsNeed64Bits) {
  ModelShape shape = DemoShape();
  shape.num_kv_heads = 8;
  shape.head_dim = 128;
  SelectionConfig full;
  full.policy = &kFullPolicy;
  const KvPlan plan = MakePrefillPlan(shape, full, 10'000'000).kv;
  const KvLayout layout(plan, 8, 2);
  const int64_t half = int64_t{8} * 10'000'000 * 128 * 2;  // K of one layer
  EXPECT_EQ(layout.value_offset(0, 0, 0), half);
  EXPECT_EQ(layout.key_offset(11, 7, 9'999'999), 11 * 2 * half + half - 256);
  EXPECT_EQ(layout.total_bytes(), 12 * 2 * half);
}

}  // namespace
}  // namespace winnow
