#include "common/fault_rules.h"

#include <gtest/gtest.h>

namespace winnow {
namespace {

FaultRules Parse(const char* text) {
  absl::StatusOr<FaultRules> rules = FaultRules::Parse(text);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules.ok() ? *std::move(rules) : FaultRules();
}

TEST(FaultRulesTest, WithoutARuleNothingGoesWrong) {
  FaultRules rules = Parse("# nothing\n\n");
  EXPECT_EQ(rules.Hit("decode.commit", -1).fault, Fault::kNone);
}

TEST(FaultRulesTest, AfterAndTimesBoundTheFaults) {
  FaultRules rules = Parse("push.chunk drop after=2 times=1");
  EXPECT_EQ(rules.Hit("push.chunk", 0).fault, Fault::kNone);
  EXPECT_EQ(rules.Hit("push.chunk", 0).fault, Fault::kNone);
  EXPECT_EQ(rules.Hit("push.chunk", 0).fault, Fault::kDrop);
  EXPECT_EQ(rules.Hit("push.chunk", 0).fault, Fault::kNone);
  EXPECT_EQ(rules.Hit("commit", 0).fault, Fault::kNone);
}

TEST(FaultRulesTest, OnPicksOneInstance) {
  FaultRules rules = Parse("rank fail on=1 code=INTERNAL");
  EXPECT_EQ(rules.Hit("rank", 0).fault, Fault::kNone);
  const FaultRules::Outcome outcome = rules.Hit("rank", 1);
  EXPECT_EQ(outcome.fault, Fault::kFail);
  EXPECT_EQ(outcome.code, absl::StatusCode::kInternal);
}

TEST(FaultRulesTest, ADelayHasALength) {
  FaultRules rules = Parse("step delay ms=250");
  EXPECT_EQ(rules.Hit("step", -1).delay, absl::Milliseconds(250));
}

TEST(FaultRulesTest, AHoldLastsAsLongAsItsRule) {
  FaultRules rules = Parse("step hold on=1 times=1");
  EXPECT_EQ(rules.Hit("step", 1).fault, Fault::kHold);
  EXPECT_EQ(rules.Hit("step", 1).fault, Fault::kNone);  // the first one still waits
  EXPECT_TRUE(rules.Holds("step", 1));
  EXPECT_FALSE(rules.Holds("step", 0));
  EXPECT_FALSE(rules.Holds("commit", 1));
}

TEST(FaultRulesTest, TheSeedDecidesWhichHitsFail) {
  const auto draw = [](const char* text) {
    FaultRules rules = Parse(text);
    std::string drawn;
    for (int i = 0; i < 64; ++i) drawn += rules.Hit("step", -1).fault == Fault::kFail ? 'x' : '.';
    return drawn;
  };
  const std::string drawn = draw("seed 7\nstep fail chance=0.5");
  EXPECT_EQ(drawn, draw("seed 7\nstep fail chance=0.5"));
  EXPECT_NE(drawn, draw("seed 8\nstep fail chance=0.5"));
  EXPECT_NE(drawn.find('x'), std::string::npos);
  EXPECT_NE(drawn.find('.'), std::string::npos);
}

TEST(FaultRulesTest, AWrongLineIsNamed) {
  for (const char* text : {"step", "step explode", "step fail times=x", "step fail code=SAD",
                           "step fail colour=red"}) {
    const absl::Status status = FaultRules::Parse(std::string("step drop\n") + text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(status.message().find("line 2"), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace winnow
