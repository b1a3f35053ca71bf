#include "common/address_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Answers as the test says and counts.
class FakeResolver final : public Resolver {
 public:
  absl::StatusOr<std::vector<std::string>> Resolve(const std::string& host) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_calls_;
    called_.notify_all();
    return answers_[host];
  }
  // The list asks for its names in turn, and has seen an answer when it asks for the next one.
  void Set(const std::string& host, absl::StatusOr<std::vector<std::string>> answer) {
    std::lock_guard<std::mutex> lock(mutex_);
    answers_[host] = std::move(answer);
    wait_for_ = num_calls_ + static_cast<int>(answers_.size()) + 1;
  }
  // Waits until the list has seen all answers.
  bool WaitUntilSeen() {
    std::unique_lock<std::mutex> lock(mutex_);
    return called_.wait_for(lock, std::chrono::seconds(20),
                            [this] { return num_calls_ >= wait_for_; });
  }
  int num_calls() {
    std::lock_guard<std::mutex> lock(mutex_);
    return num_calls_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable called_;
  std::map<std::string, absl::StatusOr<std::vector<std::string>>> answers_;
  int num_calls_ = 0, wait_for_ = 0;
};

class AddressListTest : public ::testing::Test {
 protected:
  void Start(const std::string& flag) {
    const auto entries = AddressList::Parse(flag);
    ASSERT_TRUE(entries.ok()) << entries.status();
    list_ = std::make_unique<AddressList>(*entries, resolver_, absl::Milliseconds(1));
  }
  void Say(absl::StatusOr<std::vector<std::string>> answer) {
    resolver_.Set("pods", std::move(answer));
    ASSERT_TRUE(resolver_.WaitUntilSeen());
  }

  FakeResolver resolver_;
  std::unique_ptr<AddressList> list_;
};

TEST_F(AddressListTest, AnAddressStaysAndIsNeverResolved) {
  Start("worker-a:1,10.0.0.1:2,[::1]:3");
  EXPECT_THAT(list_->Addresses(), ElementsAre("worker-a:1", "10.0.0.1:2", "[::1]:3"));
  EXPECT_EQ(resolver_.num_calls(), 0);
}

TEST_F(AddressListTest, ANameIsAllItsAddressesAsTheyComeAndGo) {
  resolver_.Set("pods", {{"10.0.0.1", "10.0.0.2"}});
  Start("dns:///pods:7,fixed:1");
  ASSERT_TRUE(resolver_.WaitUntilSeen());
  EXPECT_THAT(list_->Addresses(), ElementsAre("10.0.0.1:7", "10.0.0.2:7", "fixed:1"));
  Say({{"10.0.0.2", "fd00::3"}});
  EXPECT_THAT(list_->Addresses(), ElementsAre("10.0.0.2:7", "[fd00::3]:7", "fixed:1"));
}

TEST_F(AddressListTest, WhenNobodyCanTellTheLastAnswerStays) {
  resolver_.Set("pods", {{"10.0.0.1"}});
  Start("dns:///pods:7");
  ASSERT_TRUE(resolver_.WaitUntilSeen());
  Say(absl::UnavailableError("no name server"));
  EXPECT_THAT(list_->Addresses(), ElementsAre("10.0.0.1:7"));
}

TEST_F(AddressListTest, ANameThatDoesNotExistAnyMoreHasNoAddresses) {
  resolver_.Set("pods", {{"10.0.0.1"}});
  Start("dns:///pods:7");
  ASSERT_TRUE(resolver_.WaitUntilSeen());
  Say(std::vector<std::string>{});
  EXPECT_THAT(list_->Addresses(), IsEmpty());
}

TEST_F(AddressListTest, AnAddressThatIsNamedTwiceIsThereOnce) {
  resolver_.Set("pods", {{"10.0.0.1"}});
  resolver_.Set("same", {{"10.0.0.1"}});
  Start("dns:///pods:7,dns:///same:7,10.0.0.1:7");
  ASSERT_TRUE(resolver_.WaitUntilSeen());
  EXPECT_THAT(list_->Addresses(), ElementsAre("10.0.0.1:7"));
}

TEST_F(AddressListTest, RefusesWhatIsNoAddress) {
  for (const std::string bad : {"worker", "worker:0", "dns:///pods", "dns://pods:7", "a:1,b"}) {
    const auto entries = AddressList::Parse(bad);
    EXPECT_EQ(entries.status().code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_THAT(std::string(entries.status().message()), HasSubstr("host:port")) << bad;
  }
  EXPECT_THAT(std::string(AddressList::Parse("a:1,b:2,a:1").status().message()),
              HasSubstr("a:1 is there twice"));
}

TEST(SystemResolverTest, KnowsNumbersAndLocalhost) {
  SystemResolver resolver;
  EXPECT_THAT(*resolver.Resolve("127.0.0.1"), ElementsAre("127.0.0.1"));
  EXPECT_THAT(*resolver.Resolve("::1"), ElementsAre("::1"));
  EXPECT_THAT(*resolver.Resolve("localhost"), ::testing::Not(IsEmpty()));
}

}  // namespace
}  // namespace winnow
