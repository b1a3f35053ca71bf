#pragma once

#include <deque>

#include "absl/time/time.h"

namespace winnow {

// Whether a worker that answers polls should get requests, by how its last ones ended. Closed: all
// is well. Open: its requests fail. Half-open: the time is over, one request is on its way to try
// it; its end closes or opens. Pure: the caller brings the time, which never runs backwards.
class CircuitBreaker {
 public:
  struct Options {
    // Opens when so many requests failed within `window` and they are at least half of those that
    // ended in it.
    int min_failures = 3;
    absl::Duration window = absl::Seconds(10);
    // How long it stays open; twice as long after every trial that fails.
    absl::Duration first_pause = absl::Seconds(1);
    absl::Duration longest_pause = absl::Seconds(30);
  };
  enum class State { kClosed, kOpen, kHalfOpen };

  CircuitBreaker() : CircuitBreaker(Options()) {}
  explicit CircuitBreaker(const Options& options)
      : options_(options), pause_(options.first_pause) {}

  // Whether a request may go to the worker now. A trial that has not ended after another pause does
  // not keep the next one back.
  bool Allows(absl::Time now) const { return state_ == State::kClosed || now >= next_trial_; }
  // A request goes to the worker; the first one after the pause is the trial.
  void OnRequest(absl::Time now);
  // A request ended well, or in a way that speaks against the worker.
  void OnSuccess(absl::Time now);
  void OnFailure(absl::Time now);
  // Another process is at the address: nothing is held against it.
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
