#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "router/wait_limit.h"

namespace winnow {

// Requests that wait for a worker: highest priority first, then first come. Bounded in number and
// in time. It is told the time; not thread-safe.
class RequestQueue {
 public:
  struct Options {
    size_t max_waiting = 1024;
    WaitLimit wait_limit;
  };
  struct Entry {
    uint64_t id = 0;  // counts up: who has the lower one came first
    int priority = 0;
    absl::Time until;  // then it must have left
  };

  explicit RequestQueue(Options options) : options_(options) {}

  // A newcomer; it is not in the queue yet.
  Entry MakeEntry(int priority, absl::Time now, absl::Time deadline);
  // Puts an entry in its place, which is its old one if it was here before. When the queue is full,
  // the last of the lowest priority must go, perhaps this very one: it is returned.
  std::optional<uint64_t> Add(const Entry& entry);
  std::optional<Entry> TakeFirst();
  // The entries whose time is over.
  std::vector<uint64_t> TakeLate(absl::Time now);
  void Remove(const Entry& entry) { entries_.erase(KeyOf(entry)); }
  bool Has(const Entry& entry) const { return entries_.count(KeyOf(entry)) > 0; }
  // Whether a newcomer of this priority would stand behind somebody.
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
