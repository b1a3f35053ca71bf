#include "plan/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "plan/selection_config.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

TEST(PolicyTest, EveryPolicyIsFoundByItsName) {
  std::set<std::string> names;
  for (const Policy* policy : Policies()) {
    EXPECT_EQ(*FindPolicy(policy->name), policy);
    EXPECT_TRUE(names.insert(policy->name).second) << policy->name << " stands twice";
    EXPECT_STRNE(policy->summary, "");
  }
}

TEST(PolicyTest, AnUnknownNameIsRefusedWithThoseThatExist) {
  const auto policy = FindPolicy("oracle");
  EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(policy.status().message()),
              HasSubstr("unknown policy 'oracle'; supported: " + PolicyNames()));
  EXPECT_FALSE(FindPolicy("").ok());
  EXPECT_FALSE(FindPolicy("CLAA").ok());
}

TEST(PolicyTest, TheListNamesThemInOrder) { EXPECT_EQ(PolicyNames(), "full, claa, uniform"); }

}  // namespace
}  // namespace winnow
