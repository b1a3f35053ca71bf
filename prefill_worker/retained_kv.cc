#include "prefill_worker/retained_kv.h"

#include <algorithm>
#include <utility>

namespace winnow {

void RetainedKv::Put(const std::string& request_id, Entry entry, absl::Time now) {
  Erase(request_id);
  if (entry.staging == nullptr || entry.staging->bytes() > options_.max_bytes) return;
  bytes_ += entry.staging->bytes();
  entries_.emplace(request_id, Stored{std::move(entry), now});
  Trim(now);
}

std::optional<RetainedKv::Entry> RetainedKv::Find(const std::string& request_id, absl::Time now) {
  Trim(now);
  auto it = entries_.find(request_id);
  if (it == entries_.end()) return std::nullopt;
  return it->second.entry;
}

void RetainedKv::Erase(const std::string& request_id) {
  auto it = entries_.find(request_id);
  if (it == entries_.end()) return;
  bytes_ -= it->second.entry.staging->bytes();
  entries_.erase(it);
}

void RetainedKv::Trim(absl::Time now) {
  while (!entries_.empty()) {
    auto oldest = std::min_element(
        entries_.begin(), entries_.end(),
        [](const auto& a, const auto& b) { return a.second.since < b.second.since; });
    const bool too_old = now - oldest->second.since > options_.max_age;
    if (!too_old && bytes_ <= options_.max_bytes) return;
    Erase(std::string(oldest->first));
  }
}

}  // namespace winnow
