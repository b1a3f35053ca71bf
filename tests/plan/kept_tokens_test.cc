#include "plan/kept_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ProtectedSpansTest, AreClippedMergedAndAscending) {
  SelectionConfig config;
  EXPECT_THAT(ProtectedSpans(config, 100), IsEmpty());
  config.protected_prefix = 5;
  config.protected_spans = {{50, 60}, {5, 7}, {20, 20}, {55, 70}, {52, 53}, {99, 300}, {400, 500}};
  EXPECT_THAT(ProtectedSpans(config, 100),
              ElementsAre(PositionSpan{0, 7}, PositionSpan{50, 70}, PositionSpan{99, 100}));
  EXPECT_THAT(ProtectedSpans(config, 3), ElementsAre(PositionSpan{0, 3}));
  EXPECT_THAT(ProtectedSpans(config, 0), IsEmpty());
  EXPECT_THAT(ProtectedSpans(config, -7), IsEmpty());
}

TEST(NumKeptTest, IsTheHighestOfShareFloorAndWhatMustBeKept) {
  SelectionConfig config{.keep_ppm = 100'000, .min_kept_tokens = 0};
  EXPECT_EQ(NumKept(config, 1000, 8), 100);    // the share
  EXPECT_EQ(NumKept(config, 1000, 200), 201);  // one more than the rows that are always kept
  config.min_kept_tokens = 300;
  EXPECT_EQ(NumKept(config, 1000, 8), 300);
  config.protected_spans = {{0, 400}, {990, 1000}};  // the second reaches into the kept rows
  EXPECT_EQ(NumKept(config, 1000, 8), 400 + 2 + 8);
}

}  // namespace
}  // namespace winnow
