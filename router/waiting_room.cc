#include "router/waiting_room.h"

#include <algorithm>
#include <utility>

#include "common/retry_hint.h"

namespace winnow {
namespace {

constexpr absl::Duration kDefaultHint = absl::Seconds(1);

// How long a released request holds up the next one: the worker that it asks may be gone.
constexpr absl::Duration kLongestTurn = absl::Seconds(1);

}  // namespace

bool WaitingRoom::MustWait(int priority) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.HasBefore(priority);
}

RequestQueue::Entry WaitingRoom::Enter(int priority, absl::Time deadline) {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.MakeEntry(priority, clock_.Now(), deadline);
}

void WaitingRoom::Wait(const RequestQueue::Entry& ticket, const absl::Status& full,
                       Callbacks callbacks) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (trying_ == ticket.id) trying_ = 0;
  callbacks_[ticket.id] = std::move(callbacks);
  if (!full.ok()) {
    full_ = full;
    has_room_ = false;
    ExpectRoomAfter(GetRetryAfter(full).value_or(kDefaultHint));
  }
  if (const auto pushed_out = queue_.Add(ticket)) Refuse(*pushed_out);
  WatchTime(ticket);
  Pump();
}

void WaitingRoom::Leave(const RequestQueue::Entry& ticket) {
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.Remove(ticket);
  callbacks_.erase(ticket.id);
  if (trying_ == ticket.id) trying_ = 0;
  Pump();
}

void WaitingRoom::OnCapacity() {
  std::lock_guard<std::mutex> lock(mutex_);
  has_room_ = true;
  Pump();
}

size_t WaitingRoom::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return queue_.size();
}

void WaitingRoom::Pump() {
  for (const uint64_t late : queue_.TakeLate(clock_.Now())) Refuse(late);
  if (trying_ != 0 || !has_room_) return;
  const auto first = queue_.TakeFirst();
  if (!first) return;
  trying_ = first->id;
  Tell(callbacks_.extract(first->id).mapped().try_again);
  WatchTurn();
}

void WaitingRoom::Refuse(uint64_t id) {
  absl::Status refusal = full_;
  if (refusal.ok()) {  // no worker was asked while the request waited
    refusal = absl::ResourceExhaustedError("the router: too many requests wait for a worker");
    SetRetryAfter(refusal, kDefaultHint);
  }
  Tell([refused = callbacks_.extract(id).mapped().refused, refusal] { refused(refusal); });
}

// Callbacks run on the timer's threads: our caller may hold a lock that the callback takes.
void WaitingRoom::Tell(std::function<void()> what) {
  timer_.After(absl::ZeroDuration(), std::move(what));
}

void WaitingRoom::ExpectRoomAfter(absl::Duration hint) {
  timer_.After(hint, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->OnCapacity();
  });
}

void WaitingRoom::WatchTurn() {
  timer_.After(kLongestTurn, [weak = weak_from_this(), turn = ++turn_] {
    const std::shared_ptr<WaitingRoom> self = weak.lock();
    if (self == nullptr) return;
    std::lock_guard<std::mutex> lock(self->mutex_);
    if (self->turn_ != turn || self->trying_ == 0) return;  // this turn is over
    self->trying_ = 0;
    self->Pump();
  });
}

// Delays may end a little early, so a request that is still waiting is watched again.
void WaitingRoom::WatchTime(const RequestQueue::Entry& ticket) {
  const absl::Duration left = ticket.until - clock_.Now();
  timer_.After(std::max(left, absl::Milliseconds(1)), [weak = weak_from_this(), ticket] {
    const std::shared_ptr<WaitingRoom> self = weak.lock();
    if (self == nullptr) return;
    std::lock_guard<std::mutex> lock(self->mutex_);
    self->Pump();
    if (self->queue_.Has(ticket)) self->WatchTime(ticket);
  });
}

}  // namespace winnow
