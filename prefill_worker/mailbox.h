#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "absl/time/time.h"
#include "common/clock.h"

namespace winnow {

// Brings events from other threads to the one thread that owns some state, in the order in which
// they were posted. Senders share it with its reader, so that an event which comes after the
// reader's end does no harm: nobody runs it. Thread-safe.
class Mailbox {
 public:
  using Event = std::function<void()>;

  void Post(Event event);
  // Ends the reader's wait without an event.
  void Wake();
  // Ends the reader: its next Wait returns false.
  void Stop();

  // For the reader. All events that were posted since the last call.
  std::deque<Event> TakeAll();
  // For the reader. Blocks until something was posted, Wake or Stop was called, or `longest` has
  // passed; zero does not block. False once stopped.
  bool Wait(const Clock& clock, absl::Duration longest);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  bool woken_ = false;
  bool stopped_ = false;
};

}  // namespace winnow
