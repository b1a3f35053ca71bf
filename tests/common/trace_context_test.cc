#include "common/trace_context.h"

#include "gtest/gtest.h"

namespace winnow {
namespace {

constexpr char kHeader[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceContextTest, ReadsWhatItWrites) {
  const auto trace = TraceContext::Parse(kHeader);
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace->parent_id, "00f067aa0ba902b7");
  EXPECT_TRUE(trace->sampled);
  EXPECT_EQ(trace->ToString(), kHeader);
}

TEST(TraceContextTest, OnlyTheLowestFlagMeansSampled) {
  std::string header = kHeader;
  for (const auto& [flags, sampled] :
       {std::pair{"00", false}, {"02", false}, {"03", true}, {"0f", true}, {"fe", false}}) {
    header.replace(53, 2, flags);
    EXPECT_EQ(TraceContext::Parse(header)->sampled, sampled) << flags;
  }
}

TEST(TraceContextTest, RefusesWhatIsNotOfTheStandardsForm) {
  for (const char* header : {"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
                             "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                             "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
                             "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                             "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more"}) {
    EXPECT_FALSE(TraceContext::Parse(header).has_value()) << header;
  }
}

TEST(TraceContextTest, ALaterVersionMaySayMore) {
  const auto trace =
      TraceContext::Parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more");
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->ToString(), kHeader);  // we speak 00
}

TEST(TraceContextTest, AChildIsAnotherSpanOfTheSameTrace) {
  const TraceContext parent = *TraceContext::Parse(kHeader), child = parent.Child();
  EXPECT_EQ(child.trace_id, parent.trace_id);
  EXPECT_NE(child.parent_id, parent.parent_id);
  EXPECT_TRUE(child.sampled);
  EXPECT_EQ(TraceContext::Parse(child.ToString()), child);
}

TEST(TraceContextTest, NewTracesAreValidAndDiffer) {
  const TraceContext one = TraceContext::New(), other = TraceContext::New();
  EXPECT_EQ(TraceContext::Parse(one.ToString()), one);
  EXPECT_NE(one.trace_id, other.trace_id);
  EXPECT_FALSE(one.sampled);  // nobody asked for it
}

}  // namespace
}  // namespace winnow
