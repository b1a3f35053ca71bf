#include "prefill_worker/deferred_tasks.h"

#include <future>
#include <memory>
#include <optional>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/prefill_worker/fake_event.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;

// What a task got, for the test to wait for.
class Result {
 public:
  std::function<void(const absl::Status&)> Task() {
    return [promise = promise_](const absl::Status& status) { promise->set_value(status); };
  }
  bool IsThere() const { return future_.wait_for(std::chrono::seconds(0)) == kReady; }
  // Waits up to 20 s; nothing if the task has not run by then.
  std::optional<absl::Status> Wait() const {
    if (future_.wait_for(std::chrono::seconds(20)) != kReady) return std::nullopt;
    return future_.get();
  }

 private:
  static constexpr std::future_status kReady = std::future_status::ready;
  const std::shared_ptr<std::promise<absl::Status>> promise_ =
      std::make_shared<std::promise<absl::Status>>();
  const std::shared_future<absl::Status> future_ = promise_->get_future().share();
};

class DeferredTasksTest : public ::testing::Test {
 protected:
  // Once it returns, the thread has looked at all tasks that were added before.
  void Settle() {
    Result settled;
    tasks_->Run([task = settled.Task()] { task(absl::OkStatus()); });
    ASSERT_EQ(settled.Wait(), absl::OkStatus());
  }

  FakeClock clock_;
  std::unique_ptr<DeferredTasks> tasks_ = std::make_unique<DeferredTasks>("test", clock_);
};

TEST_F(DeferredTasksTest, TasksRunInTheOrderInWhichTheyWereAdded) {
  std::vector<int> ran;
  for (int i = 0; i < 5; ++i) tasks_->Run([&ran, i] { ran.push_back(i); });
  Settle();
  EXPECT_THAT(ran, ElementsAre(0, 1, 2, 3, 4));
}

TEST_F(DeferredTasksTest, ATaskWaitsForItsTime) {
  Result result;
  tasks_->RunAt(clock_.Now() + absl::Hours(1), [task = result.Task()] { task(absl::OkStatus()); });
  clock_.Advance(absl::Hours(1) - absl::Nanoseconds(1));
  Settle();
  EXPECT_FALSE(result.IsThere());
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_EQ(result.Wait(), absl::OkStatus());
}

TEST_F(DeferredTasksTest, AnEventThatNeverFiresHoldsUpNoOtherTask) {
  const auto never = std::make_shared<FakeEvent>(), later = std::make_shared<FakeEvent>();
  Result stuck, other, timed;
  tasks_->RunWhenDone(never, Deadline::Infinite(), stuck.Task());
  tasks_->RunWhenDone(later, Deadline::Infinite(), other.Task());
  tasks_->RunAt(clock_.Now() + absl::Seconds(1), [task = timed.Task()] { task(absl::OkStatus()); });
  Settle();
  EXPECT_FALSE(other.IsThere());
  later->SetDone();
  EXPECT_EQ(other.Wait(), absl::OkStatus());
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(timed.Wait(), absl::OkStatus());
  EXPECT_FALSE(stuck.IsThere());
}

TEST_F(DeferredTasksTest, AnEventHasUntilItsDeadline) {
  Result result;
  tasks_->RunWhenDone(std::make_shared<FakeEvent>(), Deadline::After(clock_, absl::Seconds(120)),
                      result.Task());
  clock_.Advance(absl::Seconds(119));
  Settle();
  EXPECT_FALSE(result.IsThere());
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(result.Wait().has_value());
  EXPECT_EQ(result.Wait()->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(DeferredTasksTest, AnEventsErrorReachesItsTask) {
  const auto event = std::make_shared<FakeEvent>();
  Result result;
  tasks_->RunWhenDone(event, Deadline::Infinite(), result.Task());
  event->SetDone(absl::InternalError("an illegal address"));
  EXPECT_EQ(result.Wait(), absl::InternalError("an illegal address"));
}

TEST_F(DeferredTasksTest, TheEndRunsTheTasksThatAreLeft) {
  Result timed, stuck;
  tasks_->RunAt(clock_.Now() + absl::Hours(1), [task = timed.Task()] { task(absl::OkStatus()); });
  tasks_->RunWhenDone(std::make_shared<FakeEvent>(), Deadline::Infinite(), stuck.Task());
  tasks_.reset();
  EXPECT_TRUE(timed.IsThere());
  ASSERT_TRUE(stuck.IsThere());
  EXPECT_EQ(stuck.Wait()->code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace winnow
