#pragma once

#include <limits>
#include <map>

namespace winnow {

// Counts the slots for jobs that hold a reservation or device memory, by priority. A job needs one
// of the `max` slots that jobs of its own and higher priorities share, so that an urgent job never
// waits for a less urgent one to end. All priorities together hold at most 2 · max slots. Not
// thread-safe.
class PrioritySlots {
 public:
  void AddHolder(int priority) { ++holders_[priority]; }
  void RemoveHolder(int priority) { Remove(holders_, priority); }
  void AddWaiter(int priority) { ++waiters_[priority]; }
  void RemoveWaiter(int priority) { Remove(waiters_, priority); }

  bool IsFree(int priority, int max) const {
    return CountFrom(holders_, priority) < max && CountFrom(holders_, kLowest) < 2 * max;
  }
  // Whether a newcomer of this priority has to queue behind a waiter.
  bool HasWaiter(int priority) const { return CountFrom(waiters_, priority) > 0; }

 private:
  using Jobs = std::map<int, int>;  // counts by priority; zeros are erased

  static constexpr int kLowest = std::numeric_limits<int>::min();
  static void Remove(Jobs& jobs, int priority) {
    if (--jobs[priority] == 0) jobs.erase(priority);
  }
  static int CountFrom(const Jobs& jobs, int priority) {
    int count = 0;
    for (auto it = jobs.lower_bound(priority); it != jobs.end(); ++it) count += it->second;
    return count;
  }

  Jobs holders_, waiters_;
};

}  // namespace winnow
