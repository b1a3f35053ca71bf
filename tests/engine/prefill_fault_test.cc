// Faults between the layers of a step, in builds that have fault points.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/engine/prefill_fixture.h"

namespace winnow {
namespace {

// The rules that all fault points of this process obey.
void SetFaults(const std::string& rules) {
  static const std::string path = std::string(testing::TempDir()) + "/prefill_fault_test_rules";
  std::ofstream(path + ".new") << rules;
  std::filesystem::rename(path + ".new", path);
  setenv("WINNOW_FAULT_FILE", path.c_str(), /*overwrite=*/1);
}

TEST(PrefillFaultTest, AStepThatFailedBetweenLayersLeavesNothingForTheNext) {
  std::vector<int32_t> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(i * 37 % 4000);
  SetFaults("");
  PrefillFixture fixture({.tensor_parallel = 2});
  const auto expected = fixture.Prefill(ids, {.policy = "full"});
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (int layer = 1; layer <= 4; ++layer) {
    SetFaults("prefill.rank fail on=1 after=" + std::to_string(layer) + " times=1\n");
    EXPECT_FALSE(fixture.Prefill(ids, {.policy = "full"}).ok()) << layer;
    const auto next = fixture.Prefill(ids, {.policy = "full"});
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(next->output.logits, expected->output.logits) << layer;
  }
}

}  // namespace
}  // namespace winnow
