#include "plan/ledger.h"

#include <gtest/gtest.h>

#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

TEST(LedgerTest, KeptAndPrunedAddUpToAllEntries) {
  for (int64_t n : {1, 8, 9, 10, 11, 100, 1000, 32768}) {
    for (int m : {0, 2, 6}) {
      SelectionConfig config = DemoConfig();
      config.uncompacted_layers = m;
      const PrefillPlan plan = MakePrefillPlan(DemoShape(), config, n);
      const Ledger ledger = MakeLedger(plan, 2);
      int64_t layers = 0, kept = 0;
      for (const Ledger::Segment& segment : {ledger.all, ledger.per_head, ledger.selected}) {
        EXPECT_EQ(segment.entries_kept + segment.entries_pruned, n * segment.layers * 4)
            << n << " " << m;
        layers += segment.layers;
        kept += segment.entries_kept;
      }
      EXPECT_EQ(layers, 12);
      EXPECT_EQ(ledger.all.entries_pruned, 0);
      EXPECT_EQ(ledger.kv_bytes_shipped, kept * 2 * 64 * 2);
      EXPECT_EQ(ledger.kv_bytes_full, n * 12 * 4 * 2 * 64 * 2);
      EXPECT_EQ(ledger.prompt_tokens, n);
      EXPECT_EQ(ledger.kept_tokens, plan.num_kept());
    }
  }
}

TEST(LedgerTest, MatchesACaseWorkedByHand) {
  const Ledger ledger = MakeLedger(MakePrefillPlan(DemoShape(), DemoConfig(), 1000), 4);
  EXPECT_EQ(ledger.all, (Ledger::Segment{2, 8000, 0}));
  EXPECT_EQ(ledger.per_head, (Ledger::Segment{4, 1600, 14400}));
  EXPECT_EQ(ledger.selected, (Ledger::Segment{6, 2400, 21600}));
  EXPECT_EQ(ledger.computed_token_layers,
            5 * 1000 + 6 * 100 + 1);  // layers 0–4, 5–10, the last row of 11
  EXPECT_EQ(ledger.kv_bytes_shipped, 12000 * 2 * 64 * 4);
}

TEST(LedgerTest, OfAnUnprunedRunShipsAllAndTrimsTheLastLayer) {
  SelectionConfig full;
  full.policy = &kFullPolicy;
  const Ledger ledger = MakeLedger(MakePrefillPlan(DemoShape(), full, 1000), 2);
  EXPECT_EQ(ledger.all, (Ledger::Segment{12, 48000, 0}));
  EXPECT_EQ(ledger.per_head, Ledger::Segment());
  EXPECT_EQ(ledger.selected, Ledger::Segment());
  EXPECT_EQ(ledger.computed_token_layers, 11 * 1000 + 1);
  EXPECT_EQ(ledger.kv_bytes_shipped, ledger.kv_bytes_full);
}

}  // namespace
}  // namespace winnow
