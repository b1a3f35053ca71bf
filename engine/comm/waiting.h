#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/deadline.h"

namespace winnow {

// Waits for a peer's word on `wake`. False: the deadline has passed. True: there may be news.
inline bool WaitForNews(std::condition_variable& wake, std::unique_lock<std::mutex>& lock,
                        const Clock& clock, Deadline deadline) {
  // The clock may be a test's, which wakes nobody, so it is looked at from time to time.
  constexpr absl::Duration kLongestNap = absl::Milliseconds(20);
  const absl::Duration left = deadline.Remaining(clock);
  if (left == absl::ZeroDuration()) return false;
  wake.wait_for(lock, absl::ToChronoNanoseconds(std::min(left, kLongestNap)));
  return true;
}

// What the ranks of a group hear after Communicator::Abort.
inline absl::Status GroupAborted(const absl::Status& reason) {
  return absl::AbortedError(absl::StrCat("rank group aborted: ", reason.ToString()));
}

}  // namespace winnow
