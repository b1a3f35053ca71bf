#include "decode_worker/decode_scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr auto kIdleTick = std::chrono::milliseconds(50);

}  // namespace

DecodeScheduler::DecodeScheduler(DecodeEngine& engine, const Clock& clock, DecodeEvents& events,
                                 std::function<void(const std::string&, int64_t)> release, Options options)
    : engine_(engine), clock_(clock), events_(events), release_(std::move(release)), options_(options),
      thread_([this] { Run(); }) {}

DecodeScheduler::~DecodeScheduler() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status DecodeScheduler::Activate(const CommittedSequence& committed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return absl::UnavailableError("decode: the worker is shutting down");
  Sequence sequence;
  sequence.committed = committed;
  sequence.tokens = committed.tokens;
  sequence.orphan_since = clock_.Now();
  sequences_[committed.reservation_id] = std::move(sequence);
  wake_.notify_all();
  return absl::OkStatus();
}

void DecodeScheduler::Subscribe(const std::string& reservation_id, int32_t from_index, Deadline deadline,
                                DecodeSubscriber subscriber) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Deadline limit = Deadline::After(clock_, options_.commit_timeout).Earlier(deadline);
  auto old = subscribers_.find(reservation_id);
  if (old != subscribers_.end()) {
    old->second.subscriber.ended(absl::AbortedError("decode: another stream took over this reservation"));
    subscribers_.erase(old);
  }
  subscribers_[reservation_id] = {std::move(subscriber), from_index, limit};
  wake_.notify_all();
}

void DecodeScheduler::Unsubscribe(const std::string& reservation_id) {
  std::lock_guard<std::mutex> lock(mutex_);
  subscribers_.erase(reservation_id);
  auto it = sequences_.find(reservation_id);
  if (it != sequences_.end()) it->second.orphan_since = clock_.Now();
}

void DecodeScheduler::OnReservationEnded(const std::string& reservation_id, const absl::Status& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = subscribers_.find(reservation_id);
  if (it == subscribers_.end() || sequences_.count(reservation_id) > 0) return;
  it->second.subscriber.ended(why);
  subscribers_.erase(it);
}

void DecodeScheduler::Abort(const std::string& reservation_id) {
  std::lock_guard<std::mutex> lock(mutex_);
  aborted_.push_back(reservation_id);
  wake_.notify_all();
}

int64_t DecodeScheduler::num_sequences() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(sequences_.size());
}

void DecodeScheduler::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    for (const std::string& id : std::exchange(aborted_, {})) {
      Remove(id, absl::CancelledError("decode: the generation was cancelled"));
    }
    DropLate();
    std::vector<std::string> ids;
    for (const auto& [id, sequence] : sequences_) ids.push_back(id);
    for (const std::string& id : ids) {
      if (auto it = sequences_.find(id); it != sequences_.end()) Deliver(id, it->second);
    }
    lock.unlock();
    Release();
    const bool stepped = StepOnce();
    Release();
    lock.lock();
    if (!stepped && !stopping_ && aborted_.empty()) wake_.wait_for(lock, kIdleTick);
  }
  while (!sequences_.empty()) {
    Remove(std::string(sequences_.begin()->first), absl::UnavailableError("decode: the worker is shutting down"));
  }
  for (const auto& [id, waiting] : subscribers_) {
    waiting.subscriber.ended(absl::UnavailableError("decode: the worker is shutting down"));
  }
  subscribers_.clear();
  lock.unlock();
  Release();
}

// The reservation table takes its own locks, and holds one while it activates a sequence here.
void DecodeScheduler::Release() {
  std::vector<std::pair<std::string, int64_t>> released;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    released.swap(released_);
  }
  for (const auto& [id, handle] : released) release_(id, handle);
}

DecodedToken DecodeScheduler::Describe(const Sequence& sequence, int32_t index) const {
  DecodedToken token{index, sequence.tokens[index], false, false};
  const auto given = static_cast<int32_t>(sequence.committed.tokens.size());
  const SamplingParams& sampling = sequence.committed.sampling;
  if (index < given) return token;  // the client has had it
  token.is_stop = sampling.IsStop(token.id);
  token.is_last = token.is_stop || index + 1 >= sampling.max_tokens;
  return token;
}

// What a subscriber has not had yet. The lock is held.
void DecodeScheduler::Deliver(const std::string& id, const Sequence& sequence) {
  auto it = subscribers_.find(id);
  if (it == subscribers_.end()) return;
  Waiting& waiting = it->second;
  for (; waiting.next_index < static_cast<int32_t>(sequence.tokens.size()); ++waiting.next_index) {
    waiting.subscriber.token(Describe(sequence, waiting.next_index));
  }
  if (sequence.done) Remove(id, absl::OkStatus());
}

// Sequences that nobody listens to, and subscribers whose time is over. The lock is held.
void DecodeScheduler::DropLate() {
  const absl::Time now = clock_.Now();
  std::vector<std::string> orphans, late;
  for (const auto& [id, sequence] : sequences_) {
    if (subscribers_.count(id) == 0 && now - sequence.orphan_since > options_.orphan_timeout) orphans.push_back(id);
  }
  for (const auto& [id, waiting] : subscribers_) {
    if (waiting.deadline.HasPassed(clock_)) late.push_back(id);
  }
  for (const std::string& id : orphans) Remove(id, absl::CancelledError("decode: nobody reads this generation"));
  for (const std::string& id : late) {
    const absl::Status status = absl::DeadlineExceededError(
        sequences_.count(id) > 0 ? "decode: the request's deadline passed" : "decode: no commit came in time");
    if (sequences_.count(id) > 0) {
      Remove(id, status);
    } else {
      subscribers_.at(id).subscriber.ended(status);
      subscribers_.erase(id);
    }
  }
}

// Frees a sequence and tells its subscriber. The lock is held.
void DecodeScheduler::Remove(const std::string& id, const absl::Status& status) {
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  const int64_t handle = it->second.committed.handle;
  sequences_.erase(it);
  released_.emplace_back(id, handle);
  events_.OnSequenceEnded(status);
  auto subscriber = subscribers_.find(id);
  if (subscriber == subscribers_.end()) return;
  subscriber->second.subscriber.ended(status);
  subscribers_.erase(subscriber);
}

bool DecodeScheduler::StepOnce() {
  std::vector<std::string> ids;
  std::vector<DecodeStepItem> items;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto limit = static_cast<size_t>(engine_.max_batch());
    auto it = sequences_.upper_bound(last_stepped_);
    for (size_t seen = 0; seen < sequences_.size() && items.size() < limit; ++seen) {
      if (it == sequences_.end()) it = sequences_.begin();
      const auto& [id, sequence] = *it++;
      if (sequence.done) continue;
      const CommittedSequence& c = sequence.committed;
      const bool draws = sequence.next_input + 1 == static_cast<int64_t>(sequence.tokens.size());
      // The map's nodes stay where they are until Remove, which only this thread calls.
      items.push_back({.handle = c.handle,
                       .token = sequence.tokens[sequence.next_input],
                       .position = c.next_position + sequence.next_input,
                       .entries_added = sequence.next_input,
                       .sampling = draws ? &c.sampling : nullptr,
                       .sample_index = sequence.next_input + 1});
      ids.push_back(id);
      last_stepped_ = id;
    }
  }
  if (items.empty()) return false;
  const absl::Time begin = clock_.Now();
  const absl::StatusOr<std::vector<int32_t>> drawn = engine_.Step(items);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!drawn.ok()) {
    for (const std::string& id : ids) Remove(id, drawn.status());
    return true;
  }
  int made = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    Sequence& sequence = sequences_.at(ids[i]);
    ++sequence.next_input;
    if (items[i].sampling == nullptr) continue;
    sequence.tokens.push_back((*drawn)[i]);
    sequence.done = Describe(sequence, static_cast<int32_t>(sequence.tokens.size()) - 1).is_last;
    ++made;
  }
  events_.OnStep(static_cast<int>(items.size()), absl::ToDoubleSeconds(clock_.Now() - begin), made);
  return true;
}

}  // namespace winnow
