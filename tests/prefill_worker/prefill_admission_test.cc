#include "prefill_worker/prefill_admission.h"

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

class PrefillAdmissionTest : public ::testing::Test {
 protected:
  // A prompt that takes `seconds` of the engine, once it has a rate (Measure).
  static PrefillAdmission::Entry Prompt(double seconds, int priority = 0, bool is_short = false) {
    return {.priority = priority, .is_short = is_short, .work = 1000 * seconds};
  }
  static void Measure(PrefillAdmission& admission) {
    admission.OnStep({{0, 1000}}, absl::Seconds(1), absl::Seconds(1));
  }
  FakeClock clock_;
};

TEST_F(PrefillAdmissionTest, GivesSlotsInOrder) {
  PrefillAdmission admission(clock_, kLayers, {.max_active = 1});
  PrefillAdmission::Entry first = Prompt(1), second = Prompt(1), urgent = Prompt(1, 1);
  ASSERT_TRUE(admission.Accept(first, Deadline::Infinite()).ok());
  ASSERT_TRUE(admission.Accept(second, Deadline::Infinite()).ok());
  ASSERT_TRUE(admission.Accept(urgent, Deadline::Infinite()).ok());
  EXPECT_TRUE(first.has_slot);
  EXPECT_FALSE(second.has_slot);
  EXPECT_TRUE(urgent.has_slot);  // less urgent holders do not count for it
  EXPECT_FALSE(admission.TryAcquireSlot(second));
  admission.Leave(first);
  EXPECT_FALSE(admission.TryAcquireSlot(second));  // an urgent holder counts for all below it
  admission.Leave(urgent);
  EXPECT_TRUE(admission.TryAcquireSlot(second));
  EXPECT_TRUE(second.has_slot);
}

TEST_F(PrefillAdmissionTest, ANewcomerDoesNotOvertakeWaitersOfItsOwnOrHigherPriorities) {
  PrefillAdmission admission(clock_, kLayers, {.max_active = 1});
  PrefillAdmission::Entry holder = Prompt(1), waiter = Prompt(1);
  ASSERT_TRUE(admission.Accept(holder, Deadline::Infinite()).ok());
  ASSERT_TRUE(admission.Accept(waiter, Deadline::Infinite()).ok());
  admission.Leave(holder);  // the slot is free from now on
  PrefillAdmission::Entry equal = Prompt(1), lower = Prompt(1, -1);
  ASSERT_TRUE(admission.Accept(equal, Deadline::Infinite()).ok());
  EXPECT_FALSE(equal.has_slot);
  ASSERT_TRUE(admission.Accept(lower, Deadline::Infinite()).ok());
  EXPECT_FALSE(lower.has_slot);
  PrefillAdmission::Entry urgent = Prompt(1, 1);
  ASSERT_TRUE(admission.Accept(urgent, Deadline::Infinite()).ok());
  EXPECT_TRUE(urgent.has_slot);  // nobody of its priority waits
  admission.Leave(urgent);
  EXPECT_TRUE(admission.TryAcquireSlot(waiter));
}

TEST_F(PrefillAdmissionTest, ShortOnesAndResendsHaveSlotsOfTheirOwn) {
  PrefillAdmission admission(clock_, kLayers, {.max_active = 1});
  PrefillAdmission::Entry long_one = Prompt(9), short_one = Prompt(0.1, 0, true),
                          resend{.is_short = true};
  ASSERT_TRUE(admission.Accept(long_one, Deadline::Infinite()).ok());
  ASSERT_TRUE(admission.Accept(short_one, Deadline::Infinite()).ok());
  EXPECT_TRUE(short_one.has_slot);
  ASSERT_TRUE(admission.AcceptResend(resend).ok());
  EXPECT_FALSE(resend.has_slot);
  admission.Leave(short_one);
  EXPECT_TRUE(admission.TryAcquireSlot(resend));
}

TEST_F(PrefillAdmissionTest, RefusesOneMoreThanItCanTake) {
  PrefillAdmission admission(clock_, kLayers,
                             {.max_jobs = 1, .retry_after = absl::Milliseconds(20)});
  PrefillAdmission::Entry taken = Prompt(1), refused = Prompt(1), resend{.is_short = true};
  ASSERT_TRUE(admission.Accept(taken, Deadline::Infinite()).ok());
  const absl::Status full = admission.Accept(refused, Deadline::Infinite()).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("the queue is full (1 of 1 jobs)"));
  EXPECT_EQ(GetRetryAfter(full), absl::Milliseconds(20));
  EXPECT_TRUE(admission.AcceptResend(resend).ok());
  EXPECT_EQ(admission.load().jobs, 2);  // the refused one left nothing
  EXPECT_EQ(admission.load().tokens, 1000 / kLayers);
}

TEST_F(PrefillAdmissionTest, RefusesWhatWouldWaitTooLong) {
  PrefillAdmission admission(clock_, kLayers, {.max_queue_time = absl::Seconds(10)});
  Measure(admission);
  PrefillAdmission::Entry large = Prompt(12), next = Prompt(1), urgent = Prompt(1, 1);
  ASSERT_TRUE(admission.Accept(large, Deadline::Infinite()).ok());  // nobody is before it
  EXPECT_EQ(admission.queued_time(), absl::Seconds(12));
  const absl::Status full = admission.Accept(next, Deadline::Infinite()).status();
  EXPECT_THAT(std::string(full.message()), HasSubstr("12s of work, 10s allowed"));
  EXPECT_EQ(GetRetryAfter(full), absl::Seconds(2));
  EXPECT_TRUE(admission.Accept(urgent, Deadline::Infinite()).ok());
}

TEST_F(PrefillAdmissionTest, RefusesWhatWouldMissItsDeadline) {
  PrefillAdmission admission(clock_, kLayers, {});
  Measure(admission);
  PrefillAdmission::Entry alone = Prompt(12), late = Prompt(2), patient = Prompt(2);
  ASSERT_TRUE(admission.Accept(alone, Deadline::After(clock_, absl::Seconds(5))).ok());
  const absl::Status refused =
      admission.Accept(late, Deadline::After(clock_, absl::Seconds(19))).status();
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("would be done in 14s, the deadline leaves 19s"));
  EXPECT_EQ(GetRetryAfter(refused), absl::Seconds(12));
  EXPECT_TRUE(admission.Accept(patient, Deadline::After(clock_, absl::Seconds(21))).ok());
}

TEST_F(PrefillAdmissionTest, WhatIsDoneOrGivenUpIsNotWaitedFor) {
  PrefillAdmission admission(clock_, kLayers, {});
  Measure(admission);
  PrefillAdmission::Entry a = Prompt(4), b = Prompt(4);
  ASSERT_TRUE(admission.Accept(a, Deadline::Infinite()).ok());
  ASSERT_TRUE(admission.Accept(b, Deadline::Infinite()).ok());
  Measure(admission);  // a second of a's
  a.work -= 1000;
  EXPECT_EQ(admission.queued_time(), absl::Seconds(7));
  admission.Leave(b);
  EXPECT_EQ(admission.queued_time(), absl::Seconds(3));
  admission.Leave(a);
  EXPECT_EQ(admission.queued_time(), absl::ZeroDuration());
  EXPECT_EQ(admission.load().jobs, 0);
}

TEST_F(PrefillAdmissionTest, ClosedTakesNobody) {
  PrefillAdmission admission(clock_, kLayers, {});
  PrefillAdmission::Entry job = Prompt(1), resend{.is_short = true};
  admission.Close();
  EXPECT_EQ(admission.Accept(job, Deadline::Infinite()).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(admission.AcceptResend(resend).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(admission.load().jobs, 0);
}

TEST_F(PrefillAdmissionTest, NeverGivesMoreSlotsThanThereAre) {
  constexpr int kSlots = 3;
  PrefillAdmission admission(clock_, kLayers, {.max_active = kSlots});
  std::atomic<int> holders{0}, most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        PrefillAdmission::Entry job = Prompt(1);
        ASSERT_TRUE(admission.Accept(job, Deadline::Infinite()).ok());
        while (!job.has_slot && !admission.TryAcquireSlot(job)) std::this_thread::yield();
        const int now = ++holders;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        --holders;
        admission.Leave(job);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, kSlots);
  EXPECT_EQ(admission.load().jobs, 0);
}

}  // namespace
}  // namespace winnow
