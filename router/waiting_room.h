#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/timer.h"
#include "router/request_queue.h"

namespace winnow {

// Where requests wait while all workers that could take them are full. One at a time tries again:
// when a request of this router leaves a worker, when a worker took the one before or is silent
// about it for a second, or when the workers' hint says so. Who waited too long, or finds the room
// full, is refused with the words of the last worker that was full. Thread-safe; made as a
// shared_ptr, since timers outlive it.
class WaitingRoom : public std::enable_shared_from_this<WaitingRoom> {
 public:
  // How a request is told; on another thread than the call that caused it. One of the two comes,
  // once for every Wait, unless it leaves before.
  struct Callbacks {
    std::function<void()> try_again;
    std::function<void(const absl::Status&)> refused;
  };
  // Both must outlive it.
  WaitingRoom(Timer& timer, const Clock& clock, RequestQueue::Options options)
      : timer_(timer), clock_(clock), queue_(options) {}

  // Whether a new request of this priority has to wait because others do already.
  bool MustWait(int priority) const;

  // Takes a newcomer; the ticket is for what follows.
  RequestQueue::Entry Enter(int priority, absl::Time deadline);
  // Waits for the next turn. `full`: what the workers said, OK when none was asked.
  void Wait(const RequestQueue::Entry& ticket, const absl::Status& full, Callbacks callbacks);
  // The request does not wait any more: it is gone, or it was tried and taken, or it failed for
  // another reason. It may come back with the same ticket.
  void Leave(const RequestQueue::Entry& ticket);

  // A request of this router has left a worker.
  void OnRoom();
  size_t size() const;

 private:
  // All with the lock held.
  void Pump();
  void Refuse(uint64_t id);
  void Tell(std::function<void()> what);
  void ExpectRoomAfter(absl::Duration hint);
  void WatchTurn();
  void WatchTime(const RequestQueue::Entry& ticket);

  Timer& timer_;
  const Clock& clock_;

  mutable std::mutex mutex_;
  RequestQueue queue_;
  std::map<uint64_t, Callbacks> callbacks_;  // of those in the queue
  uint64_t trying_ = 0;                      // whose turn it is; 0: nobody's
  uint64_t turn_ = 0;                        // counts them
  bool has_room_ = true;                     // as far as is known
  absl::Status full_;                        // the last worker's words
};

}  // namespace winnow
