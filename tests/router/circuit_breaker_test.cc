#include "router/circuit_breaker.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace winnow {
namespace {

using State = CircuitBreaker::State;

constexpr CircuitBreaker::Options kOptions = {};

enum class Event { kRequest, kOk, kFail, kRestart };
using enum Event;

struct Step {
  double at_s;
  Event event;
  State then;
};

// What the worker is after each step.
void Play(const std::vector<Step>& steps) {
  CircuitBreaker breaker(kOptions);
  for (size_t i = 0; i < steps.size(); ++i) {
    const absl::Time now = absl::UnixEpoch() + absl::Seconds(steps[i].at_s);
    switch (steps[i].event) {
      case kRequest:
        breaker.OnRequest(now);
        break;
      case kOk:
        breaker.OnSuccess(now);
        break;
      case kFail:
        breaker.OnFailure(now);
        break;
      case kRestart:
        breaker.Reset();
        break;
    }
    EXPECT_EQ(breaker.state(), steps[i].then) << "after step " << i;
  }
}

TEST(CircuitBreakerTest, OpensAfterFailuresInTheWindowThatAreHalfOfTheOutcomes) {
  Play({{0, kFail, State::kClosed}, {1, kFail, State::kClosed}, {2, kFail, State::kOpen}});
  // The first is out of the window when the third comes.
  Play({{0, kFail, State::kClosed},
        {1, kFail, State::kClosed},
        {10, kFail, State::kClosed},
        {10.5, kFail, State::kOpen}});
  // Most requests end well.
  Play({{0, kOk, State::kClosed},
        {0, kOk, State::kClosed},
        {0, kOk, State::kClosed},
        {0, kOk, State::kClosed},
        {1, kFail, State::kClosed},
        {1, kFail, State::kClosed},
        {1, kFail, State::kClosed},
        {1, kFail, State::kOpen}});
}

TEST(CircuitBreakerTest, ATrialThatEndsWellClosesIt) {
  Play({{0, kFail, State::kClosed},
        {0, kFail, State::kClosed},
        {0, kFail, State::kOpen},
        {1, kRequest, State::kHalfOpen},
        {3, kOk, State::kClosed},
        {3, kFail, State::kClosed}});  // what was before is forgotten
}

TEST(CircuitBreakerTest, NewsFromBeforeTheTrialChangesNothing) {
  Play({{0, kFail, State::kClosed},
        {0, kFail, State::kClosed},
        {0, kFail, State::kOpen},
        {0.1, kOk, State::kOpen},
        {0.2, kFail, State::kOpen},
        {0.9, kRequest, State::kOpen}});  // for want of another worker: no trial yet
}

TEST(CircuitBreakerTest, ARestartedWorkerBeginsAnew) {
  Play({{0, kFail, State::kClosed},
        {0, kFail, State::kClosed},
        {0, kFail, State::kOpen},
        {0.1, kRestart, State::kClosed},
        {0.2, kFail, State::kClosed}});
}

TEST(CircuitBreakerTest, OneTrialAtATimeAndPausesThatDoubleUpToTheLongest) {
  CircuitBreaker breaker(kOptions);
  absl::Time now = absl::UnixEpoch();
  for (int i = 0; i < kOptions.min_failures; ++i) breaker.OnFailure(now);
  for (const int pause_s : {1, 2, 4, 8, 16, 30, 30}) {
    EXPECT_FALSE(breaker.Allows(now + absl::Seconds(pause_s) - absl::Nanoseconds(1))) << pause_s;
    now += absl::Seconds(pause_s);
    ASSERT_TRUE(breaker.Allows(now)) << pause_s;
    breaker.OnRequest(now);
    EXPECT_FALSE(breaker.Allows(now)) << "a second trial beside the first";
    breaker.OnFailure(now);
  }
  now += kOptions.longest_pause;
  breaker.OnRequest(now);
  breaker.OnSuccess(now);
  EXPECT_TRUE(breaker.Allows(now));
}

TEST(CircuitBreakerTest, ATrialThatNeverEndsKeepsTheNextOneBackForOnePause) {
  CircuitBreaker breaker(kOptions);
  absl::Time now = absl::UnixEpoch();
  for (int i = 0; i < kOptions.min_failures; ++i) breaker.OnFailure(now);
  now += kOptions.first_pause;
  breaker.OnRequest(now);
  EXPECT_FALSE(breaker.Allows(now + kOptions.first_pause / 2));
  EXPECT_TRUE(breaker.Allows(now + kOptions.first_pause));
}

}  // namespace
}  // namespace winnow
