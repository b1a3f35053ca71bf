#include "prefill_worker/connection_pool.h"

#include <future>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

class ConnectionPoolTest : public ::testing::Test {
 protected:
  std::shared_ptr<grpc::Channel> Get(const std::string& address, int index) {
    const auto channel = pool_.Get(address, index);
    EXPECT_TRUE(channel.ok()) << channel.status();
    return channel.ok() ? *channel : nullptr;
  }
  // Makes a new connection, which closes unused ones, and waits until they are closed.
  void CloseUnused() {
    Get("127.0.0.1:" + std::to_string(next_port_++), 0);
    std::promise<void> settled;
    tasks_.Run([&] { settled.set_value(); });
    settled.get_future().wait();
  }

  FakeClock clock_;
  DeferredTasks tasks_{"test", clock_};
  ConnectionPool pool_{{}, clock_, tasks_};
  int next_port_ = 100;
};

TEST_F(ConnectionPoolTest, KeepsAConnectionForEachNumberOfAnAddress) {
  const auto first = Get("127.0.0.1:1", 0);
  EXPECT_EQ(Get("127.0.0.1:1", 0), first);
  EXPECT_NE(Get("127.0.0.1:1", 1), first);
  EXPECT_NE(Get("127.0.0.1:2", 0), first);
}

TEST_F(ConnectionPoolTest, ForgetsConnectionsThatNobodyUses) {
  std::shared_ptr<grpc::Channel> held = Get("127.0.0.1:1", 0);
  const std::weak_ptr<grpc::Channel> in_use = held, idle = Get("127.0.0.1:1", 1),
                                     used_again = Get("127.0.0.1:2", 0);
  clock_.Advance(absl::Minutes(6));
  Get("127.0.0.1:2", 0);
  clock_.Advance(absl::Minutes(6));
  CloseUnused();
  EXPECT_TRUE(idle.expired());
  EXPECT_FALSE(used_again.expired());
  EXPECT_FALSE(in_use.expired());
  clock_.Advance(absl::Minutes(11));
  CloseUnused();
  EXPECT_TRUE(used_again.expired());
  EXPECT_EQ(Get("127.0.0.1:1", 0), held);  // in use however long ago it was asked for
  held.reset();
  clock_.Advance(absl::Minutes(11));
  CloseUnused();
  EXPECT_TRUE(in_use.expired());
}

TEST_F(ConnectionPoolTest, SaysWhichAddressIsBad) {
  const absl::Status bad = pool_.Get("no port", 0).status();
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), testing::HasSubstr("no port"));
}

}  // namespace
}  // namespace winnow
