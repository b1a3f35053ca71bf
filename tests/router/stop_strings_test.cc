#include "router/stop_strings.h"

#include "gtest/gtest.h"

namespace winnow {
namespace {

std::string Through(StopStrings& stops, const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += stops.Add(part);
  return out + stops.Flush();
}

TEST(StopStringsTest, EndsBeforeTheFirstStopHoweverTheTextIsCut) {
  for (const std::vector<std::string>& parts :
       {std::vector<std::string>{"abENDcd"}, {"ab", "E", "N", "D", "cd"}, {"abE", "NDcd"}}) {
    StopStrings stops({"END"});
    EXPECT_EQ(Through(stops, parts), "ab");
    EXPECT_TRUE(stops.found());
  }
}

TEST(StopStringsTest, HoldsBackOnlyWhatMayBecomeAStop) {
  StopStrings stops({"END", "nn"});
  EXPECT_EQ(stops.Add("xEN"), "x");
  EXPECT_EQ(stops.Add("E"), "EN");
  EXPECT_EQ(stops.Add("n"), "E");
  EXPECT_EQ(stops.Flush(), "n");
}

TEST(StopStringsTest, TheEarliestOfSeveralWins) {
  StopStrings stops({"cd", "bc"});
  EXPECT_EQ(Through(stops, {"abcd"}), "a");
}

TEST(StopStringsTest, WithoutStopsTextPassesThrough) {
  StopStrings stops({});
  EXPECT_EQ(stops.Add("abc"), "abc");
  EXPECT_FALSE(stops.found());
}

}  // namespace
}  // namespace winnow
