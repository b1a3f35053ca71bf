#pragma once

#include <cstdint>

namespace winnow {

// How ranks put data into each other's memory beside their queues, without a hand of what computes.
// Each rank calls with its own number, from its own thread; `slot` < Communicator::kMaxBegunSums
// names one of a rank's sums that are under way.
class PeerCopies {
 public:
  virtual ~PeerCopies() = default;
  // What `rank` has enqueued so far is what the slot's copies, from it and to it, wait for.
  virtual void Ready(int rank, int slot) = 0;
  // Copies from rank's memory to the peer's. REQUIRES: both were Ready.
  virtual void Send(int rank, int peer, int slot, void* to, const void* from, int64_t bytes) = 0;
  // The slot's copies are all enqueued.
  virtual void Sent(int rank, int slot) = 0;
  // What `rank` enqueues from here on comes after the slot's copies from `sender`, which has Sent.
  virtual void Follow(int rank, int sender, int slot) = 0;
};

}  // namespace winnow
