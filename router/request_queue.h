#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "router/wait_limit.h"

namespace winnow {

// The requests that wait for a worker, highest priority first, then in order of arrival. Bounded in
// number and in time. Callers pass the time in. Not thread-safe.
class RequestQueue {
 public:
  struct Options {
    size_t max_waiting = 1024;
    WaitLimit wait_limit;
  };
  struct Entry {
    uint64_t id = 0;  // in order of arrival
    int priority = 0;
    absl::Time until;  // the end of its wait
  };

  explicit RequestQueue(Options options) : options_(options) {}

  // Makes an entry for a new request, without queueing it.
  Entry MakeEntry(int priority, absl::Time now, absl::Time deadline);
  // Queues an entry; one that was queued before returns to its old position. When the queue is
  // full, the last entry of the lowest priority, perhaps this very one, is removed and its id
  // returned.
  std::optional<uint64_t> Add(const Entry& entry);
  std::optional<Entry> TakeFirst();
  // Removes the entries whose wait is over; returns their ids.
  std::vector<uint64_t> TakeLate(absl::Time now);
  void Remove(const Entry& entry) { entries_.erase(KeyOf(entry)); }
  bool Has(const Entry& entry) const { return entries_.count(KeyOf(entry)) > 0; }
  // Whether a new request of this priority would wait behind another.
  bool HasBefore(int priority) const;
  size_t size() const { return entries_.size(); }

 private:
  using Key = std::pair<int64_t, uint64_t>;  // the negative priority, the id
  static Key KeyOf(const Entry& entry) { return {-int64_t{entry.priority}, entry.id}; }

  const Options options_;
  uint64_t next_id_ = 1;
  std::map<Key, Entry> entries_;
};

}  // namespace winnow
