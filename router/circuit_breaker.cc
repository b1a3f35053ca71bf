#include "router/circuit_breaker.h"

#include <algorithm>

namespace winnow {
namespace {

constexpr size_t kMaxOutcomes = 256;  // in a busy window the last ones are enough

}  // namespace

void CircuitBreaker::OnRequest(absl::Time now) {
  if (state_ == State::kClosed || now < next_trial_) return;
  state_ = State::kHalfOpen;
  next_trial_ = now + pause_;
}

void CircuitBreaker::OnSuccess(absl::Time now) {
  if (state_ == State::kClosed) Note(now, /*ok=*/true);
  // While open, the request was sent before the breaker opened and says nothing new.
  if (state_ == State::kHalfOpen) Reset();
}

void CircuitBreaker::OnFailure(absl::Time now) {
  if (state_ == State::kClosed) {
    Note(now, /*ok=*/false);
    if (FailsTooOften()) Open(now);
  } else if (state_ == State::kHalfOpen) {
    pause_ = std::min(2 * pause_, options_.longest_pause);
    Open(now);
  }
}

void CircuitBreaker::Reset() {
  state_ = State::kClosed;
  outcomes_.clear();
  pause_ = options_.first_pause;
}

void CircuitBreaker::Note(absl::Time now, bool ok) {
  while (!outcomes_.empty() &&
         (outcomes_.front().when <= now - options_.window || outcomes_.size() >= kMaxOutcomes)) {
    outcomes_.pop_front();
  }
  outcomes_.push_back({now, ok});
}

bool CircuitBreaker::FailsTooOften() const {
  const auto failures =
      std::count_if(outcomes_.begin(), outcomes_.end(), [](const Outcome& o) { return !o.ok; });
  return failures >= options_.min_failures &&
         2 * failures >= static_cast<std::ptrdiff_t>(outcomes_.size());
}

void CircuitBreaker::Open(absl::Time now) {
  state_ = State::kOpen;
  next_trial_ = now + pause_;
  outcomes_.clear();
}

}  // namespace winnow
