#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"

namespace winnow {

// T threads, one per rank, that run one function at a time together.
class RankGroup {
 public:
  // `on_start` runs first on every rank's thread (thread counts, device choice).
  RankGroup(int size, std::function<void(int rank)> on_start);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  int size() const;
  // Runs fn(rank) on every rank's thread, waits for all of them and returns the first error in rank
  // order. The peers of a rank that returns an error must learn of it (Communicator::Abort), or
  // they wait for their deadline: `on_error`, when given, is called for that at once, on the
  // failing rank's thread.
  absl::Status Run(const std::function<absl::Status(int rank)>& fn,
                   const std::function<void(const absl::Status&)>& on_error = nullptr);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace winnow
