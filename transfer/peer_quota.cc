#include "transfer/peer_quota.h"

#include "absl/strings/str_cat.h"

namespace winnow {

PeerQuota::Share& PeerQuota::Share::operator=(Share&& other) noexcept {
  if (this == &other) return *this;
  if (quota_ != nullptr) quota_->Give(peer_, bytes_);
  quota_ = std::exchange(other.quota_, nullptr);
  peer_ = std::move(other.peer_);
  bytes_ = other.bytes_;
  return *this;
}

PeerQuota::Share::~Share() {
  if (quota_ != nullptr) quota_->Give(peer_, bytes_);
}

absl::StatusOr<PeerQuota::Share> PeerQuota::Take(const std::string& peer, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto it = held_.find(peer);
  const Held before = it == held_.end() ? Held{} : it->second;
  if (limits_.reservations > 0 && before.reservations >= limits_.reservations) {
    return absl::ResourceExhaustedError(absl::StrCat("reserve: ", peer, " holds ",
                                                     before.reservations,
                                                     " reservations, as many as one peer may"));
  }
  if (limits_.bytes > 0 && bytes > limits_.bytes - before.bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("reserve: ", peer, " holds ", before.bytes,
                                                     " bytes and wants ", bytes, " more, but ",
                                                     limits_.bytes, " are what one peer may hold"));
  }
  held_[peer] = {before.reservations + 1, before.bytes + bytes};
  return Share(this, peer, bytes);
}

void PeerQuota::Give(const std::string& peer, int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto it = held_.find(peer);
  it->second.bytes -= bytes;
  if (--it->second.reservations == 0) held_.erase(it);
}

}  // namespace winnow
