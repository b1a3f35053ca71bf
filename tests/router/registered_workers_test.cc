#include "router/registered_workers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kTtl = absl::Seconds(10);

v1::WorkerInfo Info(const std::string& address, uint64_t incarnation = 1,
                    v1::WorkerRole role = v1::WORKER_ROLE_PREFILL) {
  v1::WorkerInfo info;
  info.set_address(address);
  info.set_role(role);
  info.set_incarnation(incarnation);
  info.set_layout_digest("layout");
  return info;
}

class RegisteredWorkersTest : public ::testing::Test {
 protected:
  FakeClock clock_;
  RegisteredWorkers workers_{clock_, {.max_workers = 2}};
  const WorkerAddress p_{"p:1", v1::WORKER_ROLE_PREFILL};
  const WorkerAddress d_{"d:1", v1::WORKER_ROLE_DECODE};
};

TEST_F(RegisteredWorkersTest, ALeaseThatIsNotRenewedEnds) {
  ASSERT_TRUE(workers_.Register(Info("p:1"), kTtl).ok());
  ASSERT_TRUE(workers_.Register(Info("d:1", 2, v1::WORKER_ROLE_DECODE), kTtl).ok());
  clock_.Advance(kTtl / 2);
  ASSERT_TRUE(workers_.Register(Info("d:1", 2, v1::WORKER_ROLE_DECODE), kTtl).ok());
  EXPECT_THAT(workers_.Workers(), ElementsAre(p_, d_));
  clock_.Advance(kTtl / 2);
  EXPECT_THAT(workers_.Workers(), ElementsAre(d_));
  clock_.Advance(kTtl / 2);
  EXPECT_THAT(workers_.Workers(), IsEmpty());
  ASSERT_TRUE(workers_.Register(Info("p:1"), kTtl).ok());  // and may come back
  EXPECT_THAT(workers_.Workers(), ElementsAre(p_));
}

TEST_F(RegisteredWorkersTest, LeasesStayWithinBounds) {
  EXPECT_EQ(*workers_.Register(Info("p:1"), kTtl), kTtl);
  EXPECT_EQ(*workers_.Register(Info("p:1"), absl::Milliseconds(1)), absl::Seconds(1));
  EXPECT_EQ(*workers_.Register(Info("p:1"), absl::Hours(24)), absl::Minutes(2));
}

TEST_F(RegisteredWorkersTest, OnlyTheProcessThatRegisteredLastCanLeave) {
  ASSERT_TRUE(workers_.Register(Info("p:1", 1), kTtl).ok());
  ASSERT_TRUE(workers_.Register(Info("p:1", 2), kTtl).ok());                  // it restarted
  ASSERT_TRUE(workers_.Register(Info("p:1", 1), absl::ZeroDuration()).ok());  // a late word
  EXPECT_THAT(workers_.Workers(), ElementsAre(p_));
  ASSERT_TRUE(workers_.Register(Info("p:1", 2), absl::ZeroDuration()).ok());
  EXPECT_THAT(workers_.Workers(), IsEmpty());
}

TEST_F(RegisteredWorkersTest, RefusesWhatNobodyCouldUse) {
  v1::WorkerInfo no_layout = Info("p:1");
  no_layout.clear_layout_digest();
  const std::vector<std::pair<v1::WorkerInfo, std::string>> rows = {
      {Info("p"), "no port"},          {Info("p:0"), "port 0"},
      {Info("p:1", 0), "incarnation"}, {Info("p:1", 1, v1::WORKER_ROLE_UNSPECIFIED), "role"},
      {no_layout, "layout_digest"},
  };
  for (const auto& [info, text] : rows) {
    const auto ttl = workers_.Register(info, kTtl);
    EXPECT_EQ(ttl.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(ttl.status().message()), HasSubstr(text));
  }
  EXPECT_THAT(workers_.Workers(), IsEmpty());
}

TEST_F(RegisteredWorkersTest, TakesOnlySoManyAtATime) {
  ASSERT_TRUE(workers_.Register(Info("p:1"), kTtl).ok());
  ASSERT_TRUE(workers_.Register(Info("p:2"), kTtl).ok());
  EXPECT_EQ(workers_.Register(Info("p:3"), kTtl).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(workers_.Register(Info("p:2"), kTtl).ok());  // a renewal takes no room
  clock_.Advance(kTtl);
  EXPECT_TRUE(workers_.Register(Info("p:3"), kTtl).ok());
}

}  // namespace
}  // namespace winnow
