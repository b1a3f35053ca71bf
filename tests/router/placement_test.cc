#include "router/placement.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

WorkerView View(const std::string& address, int64_t outstanding, bool ready = true,
                const std::string& layout = "x") {
  return {.address = address,
          .ready = ready,
          .layout_digest = layout,
          .incarnation = 5,
          .outstanding = outstanding};
}

TEST(PlacementTest, TakesTheLeastLoadedReadyPair) {
  const auto p = ChooseWorkers({View("p1", 9), View("p2", 3), View("p3", 0, false)},
                               {View("d1", 4), View("d2", 1)}, {});
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p->prefill_address, "p2");
  EXPECT_EQ(p->decode_address, "d2");
  EXPECT_EQ(p->decode_incarnation, 5u);
}

TEST(PlacementTest, TiesGoRoundFromTheRotation) {
  const std::vector<WorkerView> prefill = {View("p1", 0), View("p2", 0)};
  EXPECT_EQ(ChooseWorkers(prefill, {}, {.needs_decode = false, .rotation = 0})->prefill_address,
            "p1");
  EXPECT_EQ(ChooseWorkers(prefill, {}, {.needs_decode = false, .rotation = 1})->prefill_address,
            "p2");
}

TEST(PlacementTest, PairsOnlyEqualLayouts) {
  const auto p = ChooseWorkers({View("p1", 0, true, "a"), View("p2", 9, true, "b")},
                               {View("d1", 0, true, "b")}, {});
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p->prefill_address, "p2");
  EXPECT_EQ(
      ChooseWorkers({View("p1", 0, true, "a")}, {View("d1", 0, true, "b")}, {}).status().code(),
      absl::StatusCode::kUnavailable);
}

TEST(PlacementTest, AvoidedWorkersAreTheLastResort) {
  const std::vector<WorkerView> prefill = {View("p1", 0), View("p2", 50)};
  EXPECT_EQ(ChooseWorkers(prefill, {}, {.needs_decode = false, .avoid = {"p1"}})->prefill_address,
            "p2");
  EXPECT_EQ(
      ChooseWorkers(prefill, {}, {.needs_decode = false, .avoid = {"p1", "p2"}})->prefill_address,
      "p1");
}

TEST(PlacementTest, WorkersThatFailRequestsComeBeforeThoseThatFailedThisOne) {
  WorkerView failing = View("p1", 0);
  failing.failing = true;
  const std::vector<WorkerView> prefill = {failing, View("p2", 50)};
  const auto choose = [&](std::vector<std::string> avoid) {
    return ChooseWorkers(prefill, {}, {.needs_decode = false, .avoid = std::move(avoid)})
        ->prefill_address;
  };
  EXPECT_EQ(choose({}), "p2");
  EXPECT_EQ(choose({"p2"}), "p1");
  EXPECT_EQ(choose({"p1", "p2"}), "p2");
}

TEST(PlacementTest, SaysWhichRoleIsMissing) {
  const auto no_prefill = ChooseWorkers({View("p1", 0, false)}, {View("d1", 0)}, {});
  EXPECT_THAT(std::string(no_prefill.status().message()), HasSubstr("prefill"));
  const auto no_decode = ChooseWorkers({View("p1", 0)}, {View("d1", 0, false)}, {});
  EXPECT_THAT(std::string(no_decode.status().message()), HasSubstr("decode"));
  EXPECT_TRUE(ChooseWorkers({View("p1", 0)}, {}, {.needs_decode = false}).ok());
}

TEST(PlacementTest, AResendNeedsThePrefillWorkerThatHoldsTheKv) {
  const std::vector<WorkerView> prefill = {View("p1", 0), View("p2", 50), View("p3", 0, false)};
  EXPECT_EQ(ChooseWorkers(prefill, {View("d1", 0)}, {.only_prefill = "p2"})->prefill_address, "p2");
  const auto gone = ChooseWorkers(prefill, {View("d1", 0)}, {.only_prefill = "p3"});
  EXPECT_THAT(std::string(gone.status().message()), HasSubstr("p3 is not ready"));
}

}  // namespace
}  // namespace winnow
