#include "transfer/reservation.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

absl::StatusOr<std::string> RandomId() {
  std::string id(16, '\0');
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return absl::InternalError("reservation: no random bytes");
  }
  return id;
}

absl::Status NotFound() { return absl::NotFoundError("reservation: unknown, or ended long ago"); }

}  // namespace

std::shared_ptr<ReservationTable::Reservation> ReservationTable::Find(const std::string& reservation_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = reservations_.find(reservation_id);
  return it == reservations_.end() ? nullptr : it->second;
}

absl::Status ReservationTable::CheckIdentity(const TransferIdentity& identity) const {
  if (identity.wire_version != kWireVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("reserve: wire version must be ", kWireVersion, ", got ", identity.wire_version));
  }
  if (identity.layout_digest != options_.layout_digest) {
    return absl::FailedPreconditionError(absl::StrCat("reserve: layout digest must be ", options_.layout_digest,
                                                      ", got ", identity.layout_digest,
                                                      " (another model, dtype or shape)"));
  }
  if (identity.target_incarnation != 0 && identity.target_incarnation != options_.incarnation) {
    return absl::FailedPreconditionError(absl::StrCat("reserve: this worker is incarnation ", options_.incarnation,
                                                      ", not ", identity.target_incarnation, ": it restarted"));
  }
  return absl::OkStatus();
}

absl::Status ReservationTable::CheckPlan(const ReserveRequest& request) const {
  const KvPlan& plan = request.plan;
  const ModelShape& shape = options_.shape;
  if (plan.num_layers != shape.num_layers || plan.num_kv_heads != shape.num_kv_heads ||
      plan.head_dim != shape.head_dim) {
    return absl::InvalidArgumentError(absl::StrCat("reserve: the plan is for ", plan.num_layers, " layers, ",
                                                   plan.num_kv_heads, " KV heads of ", plan.head_dim,
                                                   ", the model has ", shape.num_layers, ", ", shape.num_kv_heads,
                                                   ", ", shape.head_dim));
  }
  const bool tokens_ok = plan.num_prompt_tokens >= 1 && request.max_tokens >= 1 &&
                         plan.num_prompt_tokens + request.max_tokens - 1 <= shape.max_context;
  if (!tokens_ok) {
    return absl::InvalidArgumentError(absl::StrCat("reserve: prompt tokens + max_tokens - 1 must be in [1, ",
                                                   shape.max_context, "], got ", plan.num_prompt_tokens, " + ",
                                                   request.max_tokens, " - 1"));
  }
  if (request.num_streams < 1 || request.num_streams > options_.max_streams) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve: streams must be in [1, ", options_.max_streams, "], got ", request.num_streams));
  }
  return absl::OkStatus();
}

absl::StatusOr<ReserveGrant> ReservationTable::Reserve(const ReserveRequest& request) {
  WINNOW_RETURN_IF_ERROR(CheckIdentity(request.identity));
  WINNOW_RETURN_IF_ERROR(CheckPlan(request));
  absl::StatusOr<int64_t> handle = options_.target->Reserve(request.plan, request.max_tokens - 1);
  if (!handle.ok()) {
    absl::Status status = handle.status();
    if (status.code() == absl::StatusCode::kResourceExhausted) SetRetryAfter(status, options_.retry_after);
    return status;
  }
  WINNOW_ASSIGN_OR_RETURN(const std::string id, RandomId());
  auto reservation = std::make_shared<Reservation>();
  reservation->identity = request.identity;
  reservation->identity.target_incarnation = options_.incarnation;
  reservation->plan = request.plan;
  reservation->max_tokens = request.max_tokens;
  reservation->handle = *handle;
  reservation->lease_end = options_.clock->Now() + options_.ttl;
  reservation->receiver = std::make_unique<KvReceiver>(
      KvReceiver::Options{.plan = request.plan,
                          .element_bytes = options_.kv_element_bytes,
                          .num_streams = request.num_streams,
                          .attempt = request.identity.attempt,
                          .credit_bytes_per_stream = options_.credit_bytes_per_stream,
                          .handle = *handle,
                          .target = options_.target});
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reservations_[id] = std::move(reservation);
  }
  return ReserveGrant{id, options_.ttl, options_.credit_bytes_per_stream, options_.incarnation, kWireVersion};
}

absl::Status ReservationTable::CheckCaller(const Reservation& r, const TransferIdentity& identity) const {
  const TransferIdentity& owner = r.identity;
  if (identity.source_incarnation != owner.source_incarnation || identity.request_id != owner.request_id ||
      identity.target_incarnation != owner.target_incarnation) {
    return absl::FailedPreconditionError("reservation: the caller is not the prefill worker that reserved");
  }
  if (identity.attempt != owner.attempt) {
    return absl::FailedPreconditionError(
        absl::StrCat("reservation: expected attempt ", owner.attempt, ", got ", identity.attempt));
  }
  if (r.state == ReservationState::kAborted || r.state == ReservationState::kExpired) return r.end_status;
  return absl::OkStatus();
}

absl::Status ReservationTable::OpenStream(const std::string& reservation_id, const TransferIdentity& identity,
                                          int stream) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return NotFound();
  std::lock_guard<std::mutex> lock(r->mutex);
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
  if (!r->is_open()) return absl::FailedPreconditionError("push: the reservation is committed already");
  if (stream < 0 || stream >= r->receiver->num_streams()) {
    return absl::InvalidArgumentError(
        absl::StrCat("push: stream must be in [0, ", r->receiver->num_streams(), "), got ", stream));
  }
  Renew(*r);
  return absl::OkStatus();
}

absl::StatusOr<ChunkAck> ReservationTable::OnChunk(const std::string& reservation_id, int stream,
                                                   const ChunkHeader& header, const std::byte* payload) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return NotFound();
  absl::StatusOr<ChunkAck> ack;
  {
    std::lock_guard<std::mutex> lock(r->mutex);
    if (r->state == ReservationState::kAborted || r->state == ReservationState::kExpired) return r->end_status;
    if (!r->is_open()) return absl::FailedPreconditionError("push: the reservation is committed already");
    r->state = ReservationState::kReceiving;
    Renew(*r);
    if (header.stream != static_cast<uint32_t>(stream)) {
      ack = absl::InvalidArgumentError(
          absl::StrCat("push: a chunk of stream ", header.stream, " came on stream ", stream));
    } else {
      ack = r->receiver->OnChunk(header, payload);
    }
    if (ack.ok()) return ack;
    End(*r, ReservationState::kAborted, ack.status());
  }
  Notify(reservation_id, ack.status());
  return ack;
}

void ReservationTable::Fail(const std::string& reservation_id, const absl::Status& why) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(r->mutex);
    if (!End(*r, ReservationState::kAborted, why)) return;
  }
  Notify(reservation_id, why);
}

absl::Status ReservationTable::CheckCommit(const Reservation& r, const CommitRequest& request) const {
  const KvPlan& plan = r.plan;
  if (request.num_prompt_tokens != plan.num_prompt_tokens || request.next_position != plan.num_prompt_tokens) {
    return absl::DataLossError(absl::StrCat("commit: expected ", plan.num_prompt_tokens,
                                            " prompt tokens and as next position, got ", request.num_prompt_tokens,
                                            " and ", request.next_position));
  }
  const auto num_tokens = static_cast<int64_t>(request.tokens.size());
  if (num_tokens < 1 || num_tokens >= r.max_tokens || request.sampling.max_tokens != r.max_tokens) {
    return absl::DataLossError(absl::StrCat("commit: ", num_tokens, " tokens and max_tokens ",
                                            request.sampling.max_tokens, ", but room was reserved for max_tokens ",
                                            r.max_tokens));
  }
  for (int32_t token : request.tokens) {
    if (token < 0 || token >= options_.shape.vocab_size) {
      return absl::DataLossError(absl::StrCat("commit: token id ", token, " is outside the vocabulary"));
    }
  }
  if (static_cast<int>(request.entries_per_layer.size()) != plan.num_layers) {
    return absl::DataLossError(absl::StrCat("commit: expected entries of ", plan.num_layers, " layers, got ",
                                            request.entries_per_layer.size()));
  }
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    if (request.entries_per_layer[layer] == plan.entries(layer)) continue;
    return absl::DataLossError(absl::StrCat("commit: layer ", layer, " has ", request.entries_per_layer[layer],
                                            " entries, ", plan.entries(layer), " were reserved"));
  }
  return r.receiver->CheckComplete(request.streams);
}

absl::StatusOr<int64_t> ReservationTable::Commit(const CommitRequest& request) {
  const std::shared_ptr<Reservation> r = Find(request.reservation_id);
  if (r == nullptr) return NotFound();
  std::unique_lock<std::mutex> lock(r->mutex);
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, request.identity));
  if (!r->is_open()) return r->committed_bytes;  // said again
  absl::Status status = CheckCommit(*r, request);
  if (status.ok()) {
    // Taken off the lease before the scheduler hears of it; nobody else can free the handle from here on.
    r->state = ReservationState::kCommitted;
    r->committed_bytes = r->receiver->kv_payload_bytes();
    const CommittedSequence sequence{request.reservation_id, r->identity.request_id, r->identity.attempt, r->handle,
                                     r->plan,                request.next_position,  request.tokens,
                                     request.sampling};
    status = options_.on_committed(sequence);
    if (status.ok()) return r->committed_bytes;
    r->state = ReservationState::kReceiving;
  }
  End(*r, ReservationState::kAborted, status);
  lock.unlock();
  Notify(request.reservation_id, status);
  return status;
}

absl::StatusOr<absl::Duration> ReservationTable::Renew(const std::string& reservation_id,
                                                       const TransferIdentity& identity) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return NotFound();
  std::lock_guard<std::mutex> lock(r->mutex);
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
  Renew(*r);
  return options_.ttl;
}

void ReservationTable::Renew(Reservation& r) {
  if (r.is_open()) r.lease_end = options_.clock->Now() + options_.ttl;
}

absl::Status ReservationTable::Abort(const std::string& reservation_id, const TransferIdentity& identity,
                                     const std::string& reason) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return absl::OkStatus();
  const absl::Status why = absl::AbortedError(absl::StrCat("reservation aborted by the prefill worker: ", reason));
  {
    std::lock_guard<std::mutex> lock(r->mutex);
    if (r->state == ReservationState::kAborted || r->state == ReservationState::kExpired) return absl::OkStatus();
    WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
    if (!End(*r, ReservationState::kAborted, why)) {
      return absl::FailedPreconditionError("abort: the reservation is committed; the router ends it");
    }
  }
  Notify(reservation_id, why);
  return absl::OkStatus();
}

absl::StatusOr<ReservationStatus> ReservationTable::Status(const std::string& reservation_id) const {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return NotFound();
  std::lock_guard<std::mutex> lock(r->mutex);
  ReservationStatus status;
  status.state = r->state;
  status.received_payload_bytes = r->receiver ? r->receiver->kv_payload_bytes() : r->committed_bytes;
  status.ttl = r->is_open() ? std::max(absl::ZeroDuration(), r->lease_end - options_.clock->Now()) : absl::ZeroDuration();
  return status;
}

bool ReservationTable::End(Reservation& r, ReservationState state, const absl::Status& why) {
  if (!r.is_open()) return false;
  r.state = state;
  r.end_status = why;
  r.ended = options_.clock->Now();
  r.receiver.reset();
  options_.target->Free(r.handle);
  return true;
}

void ReservationTable::Notify(const std::string& reservation_id, const absl::Status& why) {
  if (options_.on_ended) options_.on_ended(reservation_id, why);
}

void ReservationTable::Finish(const std::string& reservation_id) {
  const std::shared_ptr<Reservation> r = Find(reservation_id);
  if (r == nullptr) return;
  std::lock_guard<std::mutex> lock(r->mutex);
  r->state = ReservationState::kFinished;
  r->ended = options_.clock->Now();
  r->receiver.reset();
}

void ReservationTable::Expire() {
  const absl::Time now = options_.clock->Now();
  std::vector<std::pair<std::string, std::shared_ptr<Reservation>>> all;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    all.assign(reservations_.begin(), reservations_.end());
  }
  std::vector<std::pair<absl::Time, std::string>> ended;
  for (const auto& [id, r] : all) {
    std::unique_lock<std::mutex> lock(r->mutex);
    if (r->is_open() && now >= r->lease_end) {
      const absl::Status why = absl::DeadlineExceededError("reservation: the lease was not renewed in time");
      End(*r, ReservationState::kExpired, why);
      lock.unlock();
      Notify(id, why);
      lock.lock();
    }
    if (!r->is_open() && r->state != ReservationState::kCommitted) ended.emplace_back(r->ended, id);
  }
  // Answers are kept for two leases, and no more than max_ended of them.
  std::sort(ended.begin(), ended.end());
  const size_t too_many = ended.size() > options_.max_ended ? ended.size() - options_.max_ended : 0;
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < ended.size(); ++i) {
    if (i < too_many || now - ended[i].first > 2 * options_.ttl) reservations_.erase(ended[i].second);
  }
}

int64_t ReservationTable::num_active() const {
  std::vector<std::shared_ptr<Reservation>> all;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [id, r] : reservations_) all.push_back(r);
  }
  int64_t active = 0;
  for (const auto& r : all) {
    std::lock_guard<std::mutex> lock(r->mutex);
    active += r->is_open() || r->state == ReservationState::kCommitted;
  }
  return active;
}

}  // namespace winnow
