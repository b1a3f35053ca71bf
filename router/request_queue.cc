#include "router/request_queue.h"

#include <iterator>

namespace winnow {

RequestQueue::Entry RequestQueue::MakeEntry(int priority, absl::Time now, absl::Time deadline) {
  return {
      .id = next_id_++, .priority = priority, .until = options_.wait_limit.Until(now, deadline)};
}

std::optional<uint64_t> RequestQueue::Add(const Entry& entry) {
  entries_.emplace(KeyOf(entry), entry);
  if (entries_.size() <= options_.max_waiting) return std::nullopt;
  return entries_.extract(std::prev(entries_.end())).mapped().id;
}

std::optional<RequestQueue::Entry> RequestQueue::TakeFirst() {
  if (entries_.empty()) return std::nullopt;
  return entries_.extract(entries_.begin()).mapped();
}

std::vector<uint64_t> RequestQueue::TakeLate(absl::Time now) {
  std::vector<uint64_t> late;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const bool is_late = it->second.until <= now;
    if (is_late) late.push_back(it->second.id);
    it = is_late ? entries_.erase(it) : std::next(it);
  }
  return late;
}

bool RequestQueue::HasBefore(int priority) const {
  return !entries_.empty() && entries_.begin()->second.priority >= priority;
}

}  // namespace winnow
