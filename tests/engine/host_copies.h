#pragma once

#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "engine/comm/peer_copies.h"
#include "gtest/gtest.h"

namespace winnow {

// Copies in the host's memory, done when Send returns, that check the order of calls: what a real
// queue would take for a stale moment.
class HostCopies final : public PeerCopies {
 public:
  void Ready(int rank, int slot) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++moments_[{rank, slot}].ready;
  }
  void Send(int rank, int peer, int slot, void* to, const void* from, int64_t bytes) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const int sum = moments_[{rank, slot}].sent + 1;
    EXPECT_EQ((moments_[{rank, slot}].ready), sum) << rank;
    EXPECT_EQ((moments_[{peer, slot}].ready), sum) << rank << " to " << peer;
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void Sent(int rank, int slot) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++moments_[{rank, slot}].sent;
  }
  void Follow(int rank, int sender, int slot) override {
    std::lock_guard<std::mutex> lock(mutex_);
    EXPECT_EQ((moments_[{sender, slot}].sent), (moments_[{rank, slot}].ready))
        << rank << " after " << sender;
  }

  // As after the group's Reset.
  void Forget() { moments_.clear(); }

 private:
  struct Moments {
    int ready = 0, sent = 0;
  };
  std::mutex mutex_;
  std::map<std::pair<int, int>, Moments> moments_;  // by rank and slot
};

}  // namespace winnow
