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

// A reservation that was found, locked; one whose lease is over has expired before anybody looks at
// it. When one ends here, on_ended hears of it after the lock is free.
class ReservationTable::Access {
 public:
  Access(ReservationTable& table, const std::string& id) : Access(table, id, table.Find(id)) {}
  Access(ReservationTable& table, std::string id, std::shared_ptr<Reservation> reservation)
      : table_(table), id_(std::move(id)), reservation_(std::move(reservation)) {
    if (reservation_ == nullptr) return;
    lock_ = std::unique_lock<std::mutex>(reservation_->mutex);
    now_ = table_.options_.clock->Now();
    if (!reservation_->is_open() || now_ < reservation_->lease_end) return;
    // Not DEADLINE_EXCEEDED: it is not the caller's deadline, and another attempt may well succeed.
    End(ReservationState::kExpired,
        absl::FailedPreconditionError(
            "reservation: it expired, its lease was not renewed in time"));
  }
  ~Access() {
    if (lock_.owns_lock()) lock_.unlock();
    if (!why_.ok() && table_.options_.on_ended) table_.options_.on_ended(id_, end_state_, why_);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  bool found() const { return reservation_ != nullptr; }
  Reservation& operator*() const { return *reservation_; }
  Reservation* operator->() const { return reservation_.get(); }

  // Closes the books: no more chunks.
  void Close(ReservationState state) {
    reservation_->state = state;
    reservation_->received_bytes = reservation_->receiver->kv_payload_bytes();
    reservation_->dropped_chunks = reservation_->receiver->dropped_chunks();
    reservation_->receiver.reset();
    reservation_->ended = now_;
  }
  // Ends an open reservation before its commit and frees its room. REQUIRES: it is open.
  void End(ReservationState state, const absl::Status& why) {
    Close(state);
    reservation_->end_status = why;
    why_ = why;
    end_state_ = state;
    if (reservation_->num_writing > 0) {
      reservation_->frees_later = true;
    } else {
      table_.FreeRoom(*reservation_);
    }
  }
  void Renew() { reservation_->lease_end = now_ + table_.options_.ttl; }

 private:
  ReservationTable& table_;
  const std::string id_;
  const std::shared_ptr<Reservation> reservation_;
  std::unique_lock<std::mutex> lock_;
  absl::Time now_;    // one instant for all that this access decides: none renews what it saw late
  absl::Status why_;  // it ended here
  ReservationState end_state_ = ReservationState::kAborted;
};

std::shared_ptr<ReservationTable::Reservation> ReservationTable::Find(
    const std::string& reservation_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = reservations_.find(reservation_id);
  return it == reservations_.end() ? nullptr : it->second;
}

std::vector<std::pair<std::string, std::shared_ptr<ReservationTable::Reservation>>>
ReservationTable::All() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {reservations_.begin(), reservations_.end()};
}

absl::Status ReservationTable::CheckIdentity(const TransferIdentity& identity) const {
  if (identity.wire_version < kOldestWireVersion || identity.wire_version > kWireVersion) {
    return absl::FailedPreconditionError(absl::StrCat("reserve: wire version must be in [",
                                                      kOldestWireVersion, ", ", kWireVersion,
                                                      "], got ", identity.wire_version));
  }
  if (identity.layout_digest != options_.layout_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("reserve: layout digest must be ", options_.layout_digest, ", got ",
                     identity.layout_digest, " (another model, dtype or shape)"));
  }
  if (identity.target_incarnation != 0 && identity.target_incarnation != options_.incarnation) {
    return absl::FailedPreconditionError(
        absl::StrCat("reserve: this worker is incarnation ", options_.incarnation, ", not ",
                     identity.target_incarnation, ": it restarted"));
  }
  return absl::OkStatus();
}

absl::Status ReservationTable::CheckPlan(const ReserveRequest& request) const {
  const KvPlan& plan = request.plan;
  const ModelShape& shape = options_.shape;
  if (plan.num_layers != shape.num_layers || plan.num_kv_heads != shape.num_kv_heads ||
      plan.head_dim != shape.head_dim) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve: the plan is for ", plan.num_layers, " layers, ", plan.num_kv_heads,
                     " KV heads of ", plan.head_dim, ", the model has ", shape.num_layers, ", ",
                     shape.num_kv_heads, ", ", shape.head_dim));
  }
  const bool tokens_ok = plan.num_prompt_tokens >= 1 && request.max_tokens >= 1 &&
                         plan.num_prompt_tokens + request.max_tokens - 1 <= shape.max_context;
  if (!tokens_ok) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve: prompt tokens + max_tokens - 1 must be in [1, ", shape.max_context,
                     "], got ", plan.num_prompt_tokens, " + ", request.max_tokens, " - 1"));
  }
  if (request.num_streams < 1 || request.num_streams > options_.max_streams) {
    return absl::InvalidArgumentError(absl::StrCat(
        "reserve: streams must be in [1, ", options_.max_streams, "], got ", request.num_streams));
  }
  return absl::OkStatus();
}

// K and V of the plan and of what will be generated.
absl::StatusOr<PeerQuota::Share> ReservationTable::TakeShare(const ReserveRequest& request) {
  const KvPlan& plan = request.plan;
  const int64_t token_bytes =
      int64_t{plan.num_layers} * plan.num_kv_heads * 2 * plan.head_dim * options_.kv_element_bytes;
  const std::string peer =
      request.peer.empty() ? absl::StrCat("prefill worker ", request.identity.source_incarnation)
                           : request.peer;
  return quota_.Take(
      peer, plan.payload_bytes(options_.kv_element_bytes) + (request.max_tokens - 1) * token_bytes);
}

void ReservationTable::FreeRoom(Reservation& reservation) const {
  options_.target->Free(reservation.handle);
  reservation.share = {};
}

absl::StatusOr<ReserveGrant> ReservationTable::Reserve(const ReserveRequest& request) {
  WINNOW_RETURN_IF_ERROR(CheckIdentity(request.identity));
  WINNOW_RETURN_IF_ERROR(CheckPlan(request));
  WINNOW_ASSIGN_OR_RETURN(const std::string id, RandomId());
  absl::StatusOr<PeerQuota::Share> share = TakeShare(request);
  const absl::StatusOr<int64_t> handle =
      share.ok() ? options_.target->Reserve(request.plan, request.max_tokens - 1)
                 : absl::StatusOr<int64_t>(share.status());
  if (!handle.ok()) {
    absl::Status status = handle.status();
    if (status.code() == absl::StatusCode::kResourceExhausted)
      SetRetryAfter(status, options_.retry_after);
    return status;
  }
  auto reservation = std::make_shared<Reservation>();
  reservation->identity = request.identity;
  reservation->identity.target_incarnation = options_.incarnation;
  const uint32_t wire_version =
      std::min(std::max(request.identity.wire_version, request.newest_wire_version), kWireVersion);
  reservation->identity.wire_version = wire_version;
  reservation->plan = request.plan;
  reservation->max_tokens = request.max_tokens;
  reservation->handle = *handle;
  reservation->share = *std::move(share);
  reservation->lease_end = options_.clock->Now() + options_.ttl;
  reservation->receiver = std::make_unique<KvReceiver>(
      KvReceiver::Options{.plan = request.plan,
                          .element_bytes = options_.kv_element_bytes,
                          .num_streams = request.num_streams,
                          .attempt = request.identity.attempt,
                          .credit_bytes_per_stream = options_.credit_bytes_per_stream});
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reservations_[id] = std::move(reservation);
  }
  return ReserveGrant{id, options_.ttl, options_.credit_bytes_per_stream, options_.incarnation,
                      wire_version};
}

absl::Status ReservationTable::CheckCaller(const Reservation& r,
                                           const TransferIdentity& identity) const {
  const TransferIdentity& owner = r.identity;
  if (identity.source_incarnation != owner.source_incarnation ||
      identity.request_id != owner.request_id ||
      identity.target_incarnation != owner.target_incarnation ||
      identity.layout_digest != owner.layout_digest ||
      identity.wire_version != owner.wire_version) {
    return absl::FailedPreconditionError(
        "reservation: the caller is not the prefill worker that reserved");
  }
  if (identity.attempt != owner.attempt) {
    return absl::FailedPreconditionError(
        absl::StrCat("reservation: expected attempt ", owner.attempt, ", got ", identity.attempt));
  }
  return r.end_status;
}

absl::Status ReservationTable::CheckOpen(const Reservation& r) const {
  if (r.is_open()) return absl::OkStatus();
  return r.end_status.ok()
             ? absl::FailedPreconditionError("push: the reservation is committed already")
             : r.end_status;
}

absl::Status ReservationTable::OpenStream(const std::string& reservation_id,
                                          const TransferIdentity& identity, int stream) {
  Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
  WINNOW_RETURN_IF_ERROR(CheckOpen(*r));
  if (stream < 0 || stream >= r->receiver->num_streams()) {
    return absl::InvalidArgumentError(absl::StrCat("push: stream must be in [0, ",
                                                   r->receiver->num_streams(), "), got ", stream));
  }
  r.Renew();
  return absl::OkStatus();
}

absl::StatusOr<ChunkAck> ReservationTable::OnChunk(const std::string& reservation_id, int stream,
                                                   const ChunkHeader& header,
                                                   const std::byte* payload) {
  const std::shared_ptr<Reservation> reservation = Find(reservation_id);
  absl::StatusOr<ChunkAck> ack = Accept(reservation_id, reservation, stream, header, payload);
  if (!ack.ok() || !ack->is_new) return ack;
  options_.target->Write(reservation->handle, header, payload);
  Access r(*this, reservation_id, reservation);
  if (--r->num_writing == 0 && r->frees_later) FreeRoom(*r);
  WINNOW_RETURN_IF_ERROR(CheckOpen(*r));
  return ack;
}

absl::StatusOr<ChunkAck> ReservationTable::Accept(const std::string& reservation_id,
                                                  const std::shared_ptr<Reservation>& reservation,
                                                  int stream, const ChunkHeader& header,
                                                  const std::byte* payload) {
  Access r(*this, reservation_id, reservation);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(CheckOpen(*r));
  r->state = ReservationState::kReceiving;
  r.Renew();
  absl::StatusOr<ChunkAck> ack;
  if (header.stream != static_cast<uint32_t>(stream)) {
    ack = absl::InvalidArgumentError(
        absl::StrCat("push: a chunk of stream ", header.stream, " came on stream ", stream));
  } else {
    ack = r->receiver->OnChunk(header, payload);
  }
  if (!ack.ok()) {
    r.End(ReservationState::kAborted, ack.status());
  } else if (ack->is_new) {
    ++r->num_writing;
  }
  return ack;
}

void ReservationTable::OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes) {
  Access r(*this, reservation_id);
  if (r.found() && r->is_open()) r->receiver->OnCreditsSent(static_cast<uint32_t>(stream), bytes);
}

void ReservationTable::Fail(const std::string& reservation_id, const absl::Status& why) {
  Access r(*this, reservation_id);
  if (r.found() && r->is_open()) r.End(ReservationState::kAborted, why);
}

absl::Status ReservationTable::CheckCommit(const Reservation& r,
                                           const CommitRequest& request) const {
  const KvPlan& plan = r.plan;
  if (r.num_writing > 0) {
    return absl::DataLossError(
        absl::StrCat("commit: it came before ", r.num_writing, " chunk(s) were acknowledged"));
  }
  if (request.num_prompt_tokens != plan.num_prompt_tokens ||
      request.next_position != plan.num_prompt_tokens) {
    return absl::DataLossError(absl::StrCat(
        "commit: expected ", plan.num_prompt_tokens, " prompt tokens and as next position, got ",
        request.num_prompt_tokens, " and ", request.next_position));
  }
  const auto num_tokens = static_cast<int64_t>(request.tokens.size());
  if (num_tokens < 1 || num_tokens >= r.max_tokens || request.sampling.max_tokens != r.max_tokens) {
    return absl::DataLossError(
        absl::StrCat("commit: ", num_tokens, " tokens and max_tokens ", request.sampling.max_tokens,
                     ", but room was reserved for max_tokens ", r.max_tokens));
  }
  for (int32_t token : request.tokens) {
    if (token < 0 || token >= options_.shape.vocab_size) {
      return absl::DataLossError(
          absl::StrCat("commit: token id ", token, " is outside the vocabulary"));
    }
  }
  if (static_cast<int>(request.entries_per_layer.size()) != plan.num_layers) {
    return absl::DataLossError(absl::StrCat("commit: expected entries of ", plan.num_layers,
                                            " layers, got ", request.entries_per_layer.size()));
  }
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    if (request.entries_per_layer[layer] == plan.entries(layer)) continue;
    return absl::DataLossError(absl::StrCat("commit: layer ", layer, " has ",
                                            request.entries_per_layer[layer], " entries, ",
                                            plan.entries(layer), " were reserved"));
  }
  return r.receiver->CheckComplete(request.streams);
}

absl::StatusOr<int64_t> ReservationTable::Commit(const CommitRequest& request) {
  Access r(*this, request.reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, request.identity));
  if (!r->is_open()) return r->received_bytes;  // said again
  absl::Status status = CheckCommit(*r, request);
  if (status.ok()) {
    // Under the reservation's lock: it cannot expire between the scheduler's yes and the new state.
    status = options_.on_committed({request.reservation_id, r->identity.request_id,
                                    r->identity.attempt, r->handle, r->plan, request.next_position,
                                    request.tokens, request.sampling});
  }
  if (!status.ok()) {
    r.End(ReservationState::kAborted, status);
    return status;
  }
  r.Close(ReservationState::kCommitted);
  return r->received_bytes;
}

absl::StatusOr<absl::Duration> ReservationTable::Renew(const std::string& reservation_id,
                                                       const TransferIdentity& identity) {
  Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
  if (r->is_open()) r.Renew();
  return options_.ttl;
}

absl::Status ReservationTable::Abort(const std::string& reservation_id,
                                     const TransferIdentity& identity, const std::string& reason) {
  Access r(*this, reservation_id);
  if (!r.found() || !r->end_status.ok()) return absl::OkStatus();  // gone already
  WINNOW_RETURN_IF_ERROR(CheckCaller(*r, identity));
  if (!r->is_open())
    return absl::FailedPreconditionError("abort: the reservation is committed; the router ends it");
  r.End(ReservationState::kAborted,
        absl::AbortedError(absl::StrCat("reservation: aborted by the prefill worker: ", reason)));
  return absl::OkStatus();
}

absl::StatusOr<ReservationStatus> ReservationTable::Status(const std::string& reservation_id) {
  const Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  ReservationStatus status{.state = r->state,
                           .received_payload_bytes = r->received_bytes,
                           .dropped_chunks = r->dropped_chunks};
  if (r->is_open()) {
    status.received_payload_bytes = r->receiver->kv_payload_bytes();
    status.dropped_chunks = r->receiver->dropped_chunks();
    status.ttl = r->lease_end - options_.clock->Now();
  }
  return status;
}

void ReservationTable::Finish(const std::string& reservation_id) {
  Access r(*this, reservation_id);
  if (!r.found() || r->state != ReservationState::kCommitted) return;
  r->state = ReservationState::kFinished;
  r->share = {};
  r->ended = options_.clock->Now();
}

void ReservationTable::Expire() {
  std::vector<std::pair<absl::Time, std::string>> ended;
  for (const auto& [id, reservation] : All()) {
    const Access r(*this, id, reservation);  // expires it when it is late
    if (!r->is_open() && r->state != ReservationState::kCommitted) ended.emplace_back(r->ended, id);
  }
  std::sort(ended.begin(), ended.end());
  const size_t too_many = ended.size() > options_.max_ended ? ended.size() - options_.max_ended : 0;
  const absl::Time now = options_.clock->Now();
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < ended.size(); ++i) {
    if (i < too_many || now - ended[i].first > 2 * options_.ttl)
      reservations_.erase(ended[i].second);
  }
}

int64_t ReservationTable::num_active() const {
  int64_t active = 0;
  for (const auto& [id, r] : All()) {
    std::lock_guard<std::mutex> lock(r->mutex);
    active += r->is_open() || r->state == ReservationState::kCommitted;
  }
  return active;
}

}  // namespace winnow
