#include "decode_worker/decode_scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fault.h"

namespace winnow {
namespace {

// Time may pass a deadline without anybody calling.
constexpr absl::Duration kIdleTick = absl::Milliseconds(50);

absl::Status ShuttingDown() {
  return absl::UnavailableError("decode: the worker is shutting down");
}

// Whether a stream may listen to a sequence.
absl::Status CheckListener(const CommittedSequence& sequence, const DecodeSubscription& stream) {
  if (sequence.request_id == stream.request_id && sequence.attempt == stream.attempt)
    return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("decode: the reservation belongs to attempt ", sequence.attempt,
                   " of its request, not to attempt ", stream.attempt,
                   sequence.request_id == stream.request_id ? "" : " of another"));
}

}  // namespace

DecodeScheduler::DecodeScheduler(DecodeEngine& engine, const Clock& clock, DecodeEvents& events,
                                 OnEnded on_ended, Options options)
    : engine_(engine),
      clock_(clock),
      events_(events),
      on_ended_(std::move(on_ended)),
      options_(options),
      thread_([this] { Run(); }) {}

DecodeScheduler::~DecodeScheduler() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void DecodeScheduler::Wake() {
  woken_ = true;
  wake_.notify_all();
}

absl::Status DecodeScheduler::Activate(const CommittedSequence& committed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return ShuttingDown();
  Sequence sequence;
  sequence.committed = committed;
  sequence.tokens = committed.tokens;
  sequence.activated = sequence.orphan_since = clock_.Now();
  if (!sequences_.emplace(committed.reservation_id, std::move(sequence)).second) {
    return absl::AlreadyExistsError("decode: this reservation is being decoded already");
  }
  Wake();
  return absl::OkStatus();
}

int64_t DecodeScheduler::Subscribe(const DecodeSubscription& subscription,
                                   DecodeSubscriber subscriber, const absl::Status& if_absent) {
  std::lock_guard<std::mutex> lock(mutex_);
  const std::string& id = subscription.reservation_id;
  absl::Status refused;
  if (stopping_) refused = ShuttingDown();
  if (subscription.from_index < 0) {
    refused = absl::InvalidArgumentError(
        absl::StrCat("decode: from_index must be 0 or more, got ", subscription.from_index));
  }
  auto it = sequences_.find(id);
  if (refused.ok()) {
    refused =
        it == sequences_.end() ? if_absent : CheckListener(it->second.committed, subscription);
  }
  if (!refused.ok()) {
    subscriber.ended(refused);
    return 0;
  }
  EndListener(id, absl::AbortedError("decode: another stream took over this reservation"));
  const int64_t number = next_number_++;
  listeners_[id] = {subscription, std::move(subscriber), number, subscription.from_index,
                    Deadline::After(clock_, options_.commit_timeout)};
  if (it != sequences_.end()) Deliver(id, it->second);
  return number;
}

void DecodeScheduler::Unsubscribe(const std::string& reservation_id, int64_t number) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto listener = listeners_.find(reservation_id);
  if (listener == listeners_.end() || listener->second.number != number) return;
  listeners_.erase(listener);
  auto it = sequences_.find(reservation_id);
  if (it != sequences_.end()) it->second.orphan_since = clock_.Now();
}

void DecodeScheduler::EndWaiting(const std::string& reservation_id, const absl::Status& why) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (sequences_.count(reservation_id) == 0) EndListener(reservation_id, why);
}

void DecodeScheduler::Cancel(const std::string& reservation_id) {
  std::lock_guard<std::mutex> lock(mutex_);
  cancelled_.push_back(reservation_id);
  Wake();
}

int64_t DecodeScheduler::num_sequences() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::count_if(sequences_.begin(), sequences_.end(),
                       [](const auto& entry) { return !entry.second.done; });
}

int64_t DecodeScheduler::num_tokens() const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t tokens = 0;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.done) continue;
    tokens += sequence.committed.plan.num_prompt_tokens + sequence.committed.sampling.max_tokens;
  }
  return tokens;
}

void DecodeScheduler::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    woken_ = false;
    for (const std::string& id : std::exchange(cancelled_, {})) {
      Remove(id, absl::CancelledError("decode: the generation was cancelled"));
    }
    DropLate();
    DeliverAll();
    lock.unlock();
    ReportEnded();
    const bool stepped = StepOnce();
    ReportEnded();
    lock.lock();
    if (!stepped) clock_.WaitFor(wake_, lock, kIdleTick, [this] { return stopping_ || woken_; });
  }
  while (!sequences_.empty()) Remove(std::string(sequences_.begin()->first), ShuttingDown());
  while (!listeners_.empty()) EndListener(std::string(listeners_.begin()->first), ShuttingDown());
  lock.unlock();
  ReportEnded();
}

// Whoever hears of an end takes the reservation's lock, which comes before this one.
void DecodeScheduler::ReportEnded() {
  std::vector<std::pair<std::string, absl::Status>> ended;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended.swap(ended_);
  }
  for (const auto& [id, status] : ended) {
    on_ended_(id, status);
    // A stream may have come after the sequence was removed and before its reservation ended.
    EndWaiting(id, absl::NotFoundError("decode: the reservation has ended"));
  }
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

void DecodeScheduler::DeliverAll() {
  for (auto& [id, sequence] : sequences_) Deliver(id, sequence);
}

// What a listener has not had yet.
void DecodeScheduler::Deliver(const std::string& id, Sequence& sequence) {
  auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  Listener& listener = it->second;
  // One that came before the commit could not be checked until now.
  if (const absl::Status status = CheckListener(sequence.committed, listener.subscription);
      !status.ok()) {
    EndListener(id, status);
    return;
  }
  for (; listener.next_index < static_cast<int32_t>(sequence.tokens.size());
       ++listener.next_index) {
    listener.subscriber.token(Describe(sequence, listener.next_index));
  }
  if (!sequence.done) return;
  EndListener(id, absl::OkStatus());
  sequence.orphan_since = clock_.Now();  // the stream may break with the last tokens in it
}

// Sequences that nobody listens to, and listeners whose time is over.
void DecodeScheduler::DropLate() {
  const absl::Time now = clock_.Now();
  std::vector<std::string> orphans, late, uncommitted;
  for (const auto& [id, sequence] : sequences_) {
    if (listeners_.count(id) == 0 && now - sequence.orphan_since > options_.orphan_timeout)
      orphans.push_back(id);
  }
  for (const auto& [id, listener] : listeners_) {
    const bool committed = sequences_.count(id) > 0;
    if (listener.subscription.deadline.HasPassed(clock_)) {
      (committed ? late : uncommitted).push_back(id);
    } else if (!committed && listener.commit_deadline.HasPassed(clock_)) {
      uncommitted.push_back(id);
    }
  }
  for (const std::string& id : orphans)
    Remove(id, absl::CancelledError("decode: nobody reads this generation"));
  for (const std::string& id : late)
    Remove(id, absl::DeadlineExceededError("decode: the request's deadline passed"));
  for (const std::string& id : uncommitted) {
    EndListener(id, absl::DeadlineExceededError("decode: no commit came in time"));
  }
}

void DecodeScheduler::End(const std::string& id, const absl::Status& status) {
  ended_.emplace_back(id, status);
  events_.OnSequenceEnded(status);
}

// Forgets a sequence and tells its listener.
void DecodeScheduler::Remove(const std::string& id, const absl::Status& status) {
  auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  if (!it->second.done) End(id, status);
  sequences_.erase(it);
  EndListener(id, status);
}

void DecodeScheduler::EndListener(const std::string& id, const absl::Status& status) {
  auto it = listeners_.find(id);
  if (it == listeners_.end()) return;
  it->second.subscriber.ended(status);
  listeners_.erase(it);
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
  const absl::Status fault = FailAt("decode.step");
  const absl::StatusOr<std::vector<int32_t>> drawn =
      fault.ok() ? engine_.Step(items) : absl::StatusOr<std::vector<int32_t>>(fault);
  std::lock_guard<std::mutex> lock(mutex_);
  if (!drawn.ok()) {
    // The code belongs to the engine's own calls (a late rank, say), not to the request's.
    const absl::Status status = absl::InternalError(
        absl::StrCat("decode: the engine failed a step: ", drawn.status().ToString()));
    for (const std::string& id : ids) Remove(id, status);
    return true;
  }
  int made = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    Sequence& sequence = sequences_.at(ids[i]);
    if (sequence.next_input++ == 0) events_.OnJoined(begin - sequence.activated);
    if (items[i].sampling == nullptr) continue;
    if ((*drawn)[i] < 0) {
      Remove(ids[i], absl::InternalError("decode: the model's logits are not finite numbers"));
      continue;
    }
    sequence.tokens.push_back((*drawn)[i]);
    sequence.done = Describe(sequence, static_cast<int32_t>(sequence.tokens.size()) - 1).is_last;
    if (sequence.done) End(ids[i], absl::OkStatus());
    ++made;
  }
  events_.OnStep(static_cast<int>(items.size()), absl::ToDoubleSeconds(clock_.Now() - begin), made);
  return true;
}

}  // namespace winnow
