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

// Holds requests while all workers that could take them are full. Releases one request at a time:
// when a request of this router leaves a worker, when the previously released request was accepted
// (or got no answer within 1 s), or after the workers' retry hint. Requests that time out, or find
// the queue full, fail with the last worker's RESOURCE_EXHAUSTED. Thread-safe; made as a
// shared_ptr, since timers outlive the room.
class WaitingRoom : public std::enable_shared_from_this<WaitingRoom> {
 public:
  // For every Wait one of the two is called, once, unless the request leaves before. Both run on a
  // thread of the timer, never inside a call of this class.
  struct Callbacks {
    std::function<void()> try_again;
    std::function<void(const absl::Status&)> refused;
  };
  // Both references must outlive the room.
  WaitingRoom(Timer& timer, const Clock& clock, RequestQueue::Options options)
      : timer_(timer), clock_(clock), queue_(options) {}

  // Whether a new request of this priority has to wait behind others.
  bool MustWait(int priority) const;

  // Registers a new request. The ticket identifies it in later calls.
  RequestQueue::Entry Enter(int priority, absl::Time deadline);
  // Queues the request. `full`: the workers' refusal, or OK when none was asked.
  void Wait(const RequestQueue::Entry& ticket, const absl::Status& full, Callbacks callbacks);
  // The request no longer waits: a worker accepted it, it was cancelled, or it failed for another
  // reason. It may come back with the same ticket.
  void Leave(const RequestQueue::Entry& ticket);

  // A request of this router has left a worker, so that one may have room.
  void OnCapacity();
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
  uint64_t trying_ = 0;                      // the released request; 0: none
  uint64_t turn_ = 0;                        // counts releases
  bool has_room_ = true;                     // as far as is known
  absl::Status full_;                        // the last worker's refusal
};

}  // namespace winnow
