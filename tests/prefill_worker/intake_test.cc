#include "prefill_worker/intake.h"

#include <atomic>
#include <thread>
#include <vector>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/fake_clock.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

constexpr int kLayers = 4;

class IntakeTest : public ::testing::Test {
 protected:
  // A prompt that takes `seconds` of the engine, once it has a rate (Measure).
  static Intake::Ticket Prompt(double seconds, int priority = 0, bool is_short = false) {
    return {.priority = priority, .is_short = is_short, .work = 1000 * seconds};
  }
  static void Measure(Intake& intake) {
    intake.OnStep({{0, 1000}}, absl::Seconds(1), absl::Seconds(1));
  }
  FakeClock clock_;
};

TEST_F(IntakeTest, GivesPlacesInOrder) {
  Intake intake(clock_, kLayers, {.max_active = 1});
  Intake::Ticket first = Prompt(1), second = Prompt(1), urgent = Prompt(1, 1);
  ASSERT_TRUE(intake.Take(first, Deadline::Infinite()).ok());
  ASSERT_TRUE(intake.Take(second, Deadline::Infinite()).ok());
  ASSERT_TRUE(intake.Take(urgent, Deadline::Infinite()).ok());
  EXPECT_TRUE(first.has_place);
  EXPECT_FALSE(second.has_place);
  EXPECT_TRUE(urgent.has_place);  // of its own priority
  EXPECT_FALSE(intake.TryPlace(second));
  intake.Leave(first);
  Intake::Ticket third = Prompt(1);
  ASSERT_TRUE(intake.Take(third, Deadline::Infinite()).ok());
  EXPECT_FALSE(third.has_place);          // behind the second
  EXPECT_FALSE(intake.TryPlace(second));  // the urgent one has the place of all
  intake.Leave(urgent);
  EXPECT_TRUE(intake.TryPlace(second));
  EXPECT_TRUE(second.has_place);
}

TEST_F(IntakeTest, ShortOnesAndResendsHavePlacesOfTheirOwn) {
  Intake intake(clock_, kLayers, {.max_active = 1});
  Intake::Ticket long_one = Prompt(9), short_one = Prompt(0.1, 0, true), resend{.is_short = true};
  ASSERT_TRUE(intake.Take(long_one, Deadline::Infinite()).ok());
  ASSERT_TRUE(intake.Take(short_one, Deadline::Infinite()).ok());
  EXPECT_TRUE(short_one.has_place);
  ASSERT_TRUE(intake.TakeResend(resend).ok());
  EXPECT_FALSE(resend.has_place);
  intake.Leave(short_one);
  EXPECT_TRUE(intake.TryPlace(resend));
}

TEST_F(IntakeTest, RefusesOneMoreThanItHasRoomFor) {
  Intake intake(clock_, kLayers, {.max_jobs = 1, .retry_after = absl::Milliseconds(20)});
  Intake::Ticket taken = Prompt(1), refused = Prompt(1), resend{.is_short = true};
  ASSERT_TRUE(intake.Take(taken, Deadline::Infinite()).ok());
  const absl::Status full = intake.Take(refused, Deadline::Infinite()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("the queue is full (1 of 1 jobs)"));
  EXPECT_EQ(GetRetryAfter(full), absl::Milliseconds(20));
  EXPECT_TRUE(intake.TakeResend(resend).ok());
  EXPECT_EQ(intake.load().jobs, 2);  // the refused one left nothing
  EXPECT_EQ(intake.load().tokens, 1000 / kLayers);
}

TEST_F(IntakeTest, RefusesWhatWouldWaitTooLong) {
  Intake intake(clock_, kLayers, {.max_queue_time = absl::Seconds(10)});
  Measure(intake);
  Intake::Ticket large = Prompt(12), next = Prompt(1), urgent = Prompt(1, 1);
  ASSERT_TRUE(intake.Take(large, Deadline::Infinite()).ok());  // nobody is before it
  EXPECT_EQ(intake.queued_time(), absl::Seconds(12));
  const absl::Status full = intake.Take(next, Deadline::Infinite()).status();
  EXPECT_THAT(std::string(full.message()), HasSubstr("12s of work, 10s allowed"));
  EXPECT_EQ(GetRetryAfter(full), absl::Seconds(2));
  EXPECT_TRUE(intake.Take(urgent, Deadline::Infinite()).ok());
}

TEST_F(IntakeTest, RefusesWhatWouldMissItsDeadline) {
  Intake intake(clock_, kLayers, {});
  Measure(intake);
  Intake::Ticket alone = Prompt(12), late = Prompt(2), patient = Prompt(2);
  ASSERT_TRUE(intake.Take(alone, Deadline::After(clock_, absl::Seconds(5))).ok());
  const absl::Status refused =
      intake.Take(late, Deadline::After(clock_, absl::Seconds(19))).status();
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("would be done in 14s, the deadline leaves 19s"));
  EXPECT_EQ(GetRetryAfter(refused), absl::Seconds(12));
  EXPECT_TRUE(intake.Take(patient, Deadline::After(clock_, absl::Seconds(21))).ok());
}

TEST_F(IntakeTest, WhatIsDoneOrGivenUpIsNotWaitedFor) {
  Intake intake(clock_, kLayers, {});
  Measure(intake);
  Intake::Ticket a = Prompt(4), b = Prompt(4);
  ASSERT_TRUE(intake.Take(a, Deadline::Infinite()).ok());
  ASSERT_TRUE(intake.Take(b, Deadline::Infinite()).ok());
  Measure(intake);  // a second of a's
  a.work -= 1000;
  EXPECT_EQ(intake.queued_time(), absl::Seconds(7));
  intake.Leave(b);
  EXPECT_EQ(intake.queued_time(), absl::Seconds(3));
  intake.Leave(a);
  EXPECT_EQ(intake.queued_time(), absl::ZeroDuration());
  EXPECT_EQ(intake.load().jobs, 0);
}

TEST_F(IntakeTest, ClosedTakesNobody) {
  Intake intake(clock_, kLayers, {});
  Intake::Ticket job = Prompt(1), resend{.is_short = true};
  intake.Close();
  EXPECT_EQ(intake.Take(job, Deadline::Infinite()).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(intake.TakeResend(resend).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(intake.load().jobs, 0);
}

TEST_F(IntakeTest, NeverGivesMorePlacesThanThereAre) {
  constexpr int kPlaces = 3;
  Intake intake(clock_, kLayers, {.max_active = kPlaces});
  std::atomic<int> holders{0}, most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        Intake::Ticket job = Prompt(1);
        ASSERT_TRUE(intake.Take(job, Deadline::Infinite()).ok());
        while (!job.has_place && !intake.TryPlace(job)) std::this_thread::yield();
        const int now = ++holders;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        --holders;
        intake.Leave(job);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, kPlaces);
  EXPECT_EQ(intake.load().jobs, 0);
}

}  // namespace
}  // namespace winnow
