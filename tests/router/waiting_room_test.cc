#include "router/waiting_room.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/executor.h"
#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/fake_timer.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WaitingRoomTest : public ::testing::Test {
 protected:
  void Open(RequestQueue::Options options = {}) {
    room_ = std::make_shared<WaitingRoom>(timer_, clock_, options);
  }
  static absl::Status Full(absl::Duration hint = absl::Seconds(3)) {
    absl::Status full = absl::ResourceExhaustedError("full");
    SetRetryAfter(full, hint);
    return full;
  }
  void Wait(const std::string& name, const RequestQueue::Entry& ticket, const absl::Status& full) {
    room_->Wait(ticket, full,
                {.try_again = [this, name] { events_.push_back(name + " tries"); },
                 .refused =
                     [this, name](const absl::Status& status) {
                       EXPECT_TRUE(GetRetryAfter(status).has_value());
                       events_.push_back(name + " refused: " + std::string(status.message()));
                     }});
  }
  // Runs what was asked for after no time at all; timers wait.
  std::vector<std::string> Heard() {
    for (size_t i = 0; i < timer_.callbacks.size(); ++i) {
      if (timer_.delays[i] > absl::ZeroDuration() || timer_.callbacks[i] == nullptr) continue;
      std::exchange(timer_.callbacks[i], nullptr)();
    }
    return std::exchange(events_, {});
  }
  // Runs the timers for which the time has come.
  void Pass(absl::Duration time) {
    clock_.Advance(time);
    const size_t num_callbacks = timer_.callbacks.size();  // not those that begin now
    for (size_t i = 0; i < num_callbacks; ++i) {
      if (timer_.delays[i] > time || timer_.callbacks[i] == nullptr) continue;
      std::exchange(timer_.callbacks[i], nullptr)();
    }
  }

  // In a new room; a's ticket.
  RequestQueue::Entry LetATryAndBWait() {
    Open();
    const auto a = room_->Enter(0, absl::InfiniteFuture());
    Wait("a", a, Full());
    Wait("b", room_->Enter(0, absl::InfiniteFuture()), Full());
    room_->OnCapacity();
    EXPECT_THAT(Heard(), ElementsAre("a tries"));
    return a;
  }

  FakeClock clock_;
  FakeTimer timer_;
  std::shared_ptr<WaitingRoom> room_;
  std::vector<std::string> events_;
};

TEST_F(WaitingRoomTest, OneAtATimeTriesWhenARequestHasLeftAWorker) {
  Open();
  const auto a = room_->Enter(0, absl::InfiniteFuture());
  const auto b = room_->Enter(0, absl::InfiniteFuture());
  Wait("a", a, Full());
  Wait("b", b, Full());
  EXPECT_THAT(Heard(), IsEmpty());
  room_->OnCapacity();
  room_->OnCapacity();
  EXPECT_THAT(Heard(), ElementsAre("a tries"));
  room_->Leave(a);  // taken
  EXPECT_THAT(Heard(), ElementsAre("b tries"));
  Wait("b", b, Full());  // refused again
  EXPECT_THAT(Heard(), IsEmpty());
  EXPECT_EQ(room_->size(), 1u);
}

TEST_F(WaitingRoomTest, TheHintOfTheWorkersStartsATryByItself) {
  Open();
  Wait("a", room_->Enter(0, absl::InfiniteFuture()), Full(absl::Seconds(3)));
  Pass(absl::Seconds(2));
  EXPECT_THAT(Heard(), IsEmpty());
  Pass(absl::Seconds(3));
  EXPECT_THAT(Heard(), ElementsAre("a tries"));
}

TEST_F(WaitingRoomTest, ANewcomerWaitsBehindThoseOfItsPriority) {
  Open();
  EXPECT_FALSE(room_->MustWait(0));
  Wait("a", room_->Enter(0, absl::InfiniteFuture()), Full());
  EXPECT_TRUE(room_->MustWait(0));
  EXPECT_FALSE(room_->MustWait(1));
  Wait("b", room_->Enter(0, absl::InfiniteFuture()), absl::OkStatus());
  Wait("urgent", room_->Enter(1, absl::InfiniteFuture()), Full());
  room_->OnCapacity();
  EXPECT_THAT(Heard(), ElementsAre("urgent tries"));
}

TEST_F(WaitingRoomTest, WhoWaitedTooLongIsRefusedWithTheWorkersWords) {
  Open({.wait_limit = {.max_wait = absl::Seconds(2)}});
  Wait("a", room_->Enter(0, absl::InfiniteFuture()), Full());
  Pass(absl::Seconds(2));
  EXPECT_THAT(Heard(), ElementsAre("a refused: full"));
  EXPECT_EQ(room_->size(), 0u);
}

TEST_F(WaitingRoomTest, WhoFindsTheRoomFullIsRefused) {
  Open({.max_waiting = 1});
  Wait("a", room_->Enter(0, absl::InfiniteFuture()), Full());
  Wait("b", room_->Enter(0, absl::InfiniteFuture()), absl::OkStatus());
  EXPECT_THAT(Heard(), ElementsAre("b refused: full"));
}

TEST_F(WaitingRoomTest, WhoLeavesInItsTurnGivesItToTheNext) {
  const auto a = LetATryAndBWait();
  room_->Leave(a);  // cancelled
  EXPECT_THAT(Heard(), ElementsAre("b tries"));
}

TEST_F(WaitingRoomTest, WhoGetsNoAnswerHoldsUpTheOthersForASecond) {
  const auto a = LetATryAndBWait();
  Pass(absl::Seconds(1));
  EXPECT_THAT(Heard(), ElementsAre("b tries"));
  Wait("a", a, Full());  // its answer, late: b's turn goes on
  room_->OnCapacity();
  EXPECT_THAT(Heard(), IsEmpty());
}

TEST_F(WaitingRoomTest, TheTimeOfATurnIsItsOwn) {
  Open();
  const auto a = room_->Enter(0, absl::InfiniteFuture());
  Wait("a", a, Full());
  room_->OnCapacity();
  const std::function<void()> first_turn_is_over = timer_.callbacks.back();
  EXPECT_THAT(Heard(), ElementsAre("a tries"));
  Wait("a", a, Full());  // refused
  Wait("b", room_->Enter(0, absl::InfiniteFuture()), Full());
  room_->OnCapacity();
  EXPECT_THAT(Heard(), ElementsAre("a tries"));
  first_turn_is_over();
  EXPECT_THAT(Heard(), IsEmpty());
}

// Runs callbacks without delay on threads of its own; drops the others, since nothing here takes
// long enough.
class ThreadTimer final : public Timer {
 public:
  void After(absl::Duration delay, std::function<void()> callback) override {
    if (delay == absl::ZeroDuration()) executor_.Add(std::move(callback));
  }

 private:
  Executor executor_{"timer", 2};
};

TEST(WaitingRoomThreadsTest, EveryRequestTriesOrIsRefusedOnceHoweverManyCome) {
  constexpr int kThreads = 4, kRequests = 100;
  FakeClock clock;
  std::atomic<int> tried{0}, refused{0}, trying{0};
  std::shared_ptr<WaitingRoom> room;
  {
    ThreadTimer timer;
    room = std::make_shared<WaitingRoom>(timer, clock, RequestQueue::Options{.max_waiting = 8});
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kRequests; ++i) {
          const auto ticket = room->Enter(i % 3, absl::InfiniteFuture());
          room->Wait(ticket, absl::OkStatus(),
                     {.try_again =
                          [&, ticket] {
                            EXPECT_EQ(++trying, 1);
                            --trying;
                            ++tried;
                            room->Leave(ticket);  // taken: the next one's turn
                          },
                      .refused = [&](const absl::Status&) { ++refused; }});
          room->OnCapacity();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    while (tried + refused < kThreads * kRequests) std::this_thread::yield();
  }
  EXPECT_EQ(tried + refused, kThreads * kRequests);
  EXPECT_EQ(room->size(), 0u);
}

}  // namespace
}  // namespace winnow
