#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace winnow {

// How much of a decode worker each prefill worker may hold at a time, so that a prefill worker that
// misbehaves leaves memory for the others. Thread-safe.
class PeerQuota {
 public:
  struct Limits {  // of one peer; 0: no limit
    int64_t reservations = 0;
    int64_t bytes = 0;
  };
  explicit PeerQuota(Limits limits) : limits_(limits) {}

  // The share of one reservation; its destructor gives it back. The quota must outlive it.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept { *this = std::move(other); }
    Share& operator=(Share&& other) noexcept;
    ~Share();

   private:
    friend class PeerQuota;
    Share(PeerQuota* quota, std::string peer, int64_t bytes)
        : quota_(quota), peer_(std::move(peer)), bytes_(bytes) {}

    PeerQuota* quota_ = nullptr;  // null: nothing
    std::string peer_;
    int64_t bytes_ = 0;
  };
  // RESOURCE_EXHAUSTED, with numbers: the peer would hold more than its limits.
  absl::StatusOr<Share> Take(const std::string& peer, int64_t bytes);

 private:
  struct Held {
    int64_t reservations = 0, bytes = 0;
  };
  void Give(const std::string& peer, int64_t bytes);

  const Limits limits_;
  std::mutex mutex_;
  std::map<std::string, Held> held_;  // by peer; those that hold nothing are left out
};

}  // namespace winnow
