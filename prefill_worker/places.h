#pragma once

#include <limits>
#include <map>

namespace winnow {

// The places for jobs that hold a reservation or memory. A job needs one among the `max` of its own
// and higher priorities, so that urgent jobs do not wait for others to end; 2 · max in all. Not
// thread-safe.
class Places {
 public:
  // Of a job that has a place, or that waits for one.
  void AddHolder(int priority) { ++holders_[priority]; }
  void RemoveHolder(int priority) { Remove(holders_, priority); }
  void AddWaiter(int priority) { ++waiters_[priority]; }
  void RemoveWaiter(int priority) { Remove(waiters_, priority); }

  bool IsFree(int priority, int max) const {
    return CountFrom(holders_, priority) < max && CountFrom(holders_, kLowest) < 2 * max;
  }
  // Whether a newcomer would stand behind somebody.
  bool HasWaiter(int priority) const { return CountFrom(waiters_, priority) > 0; }

 private:
  using Jobs = std::map<int, int>;  // by priority; none is 0

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
