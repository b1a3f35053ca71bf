#pragma once

#include <deque>

#include "absl/time/time.h"

namespace winnow {

// Decides from the outcomes of a worker's last requests whether it should get more. Closed: yes.
// Open: its requests fail, so none for a pause. Half-open: after the pause, one trial request whose
// outcome closes or opens the breaker. Pure: callers pass the time in, which never runs backwards.
class CircuitBreaker {
 public:
  struct Options {
    // The breaker opens when `min_failures` requests failed within `window` and at least half of
    // the requests that ended in it did.
    int min_failures = 3;
    absl::Duration window = absl::Seconds(10);
    // How long the breaker stays open; doubles with every trial that fails.
    absl::Duration first_pause = absl::Seconds(1);
    absl::Duration longest_pause = absl::Seconds(30);
  };
  enum class State { kClosed, kOpen, kHalfOpen };

  CircuitBreaker() : CircuitBreaker(Options()) {}
  explicit CircuitBreaker(const Options& options)
      : options_(options), pause_(options.first_pause) {}

  // Whether a request may go to the worker now. A trial that has not ended after another pause does
  // not block the next one.
  bool Allows(absl::Time now) const { return state_ == State::kClosed || now >= next_trial_; }
  // A request goes to the worker; the first one after the pause is the trial.
  void OnRequest(absl::Time now);
  // A request succeeded, or failed in a way that counts against the worker.
  void OnSuccess(absl::Time now);
  void OnFailure(absl::Time now);
  // The worker was restarted: forgets all outcomes.
  void Reset();

  State state() const { return state_; }

 private:
  struct Outcome {
    absl::Time when;
    bool ok;
  };
  void Note(absl::Time now, bool ok);
  bool FailsTooOften() const;
  void Open(absl::Time now);

  Options options_;
  State state_ = State::kClosed;
  std::deque<Outcome> outcomes_;  // of the window, while closed
  absl::Time next_trial_;
  absl::Duration pause_;
};

}  // namespace winnow
