#include "transfer/reservation.h"

#include <sys/random.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"
#include "transfer/chunk_codec.h"
#include "transfer/handoff_checks.h"

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

struct ReservationTable::Reservation {
  std::mutex mutex;  // guards what can change
  TransferIdentity identity;
  KvPlan plan;
  int max_tokens = 1;
  int64_t handle = 0;
  PeerQuota::Share share;  // while the handle lives
  SequenceState state = SequenceState::kReserved;
  absl::Time lease_end, ended;
  std::unique_ptr<KvReceiver> receiver;  // while open
  int num_writing = 0;                   // chunks that are being stored, without the lock
  bool frees_later = false;              // the thread that stores the last of them frees the memory
  absl::Status end_status;  // what late callers hear; OK while open and after the commit
  // Once not open; the first is the commit's answer.
  int64_t received_bytes = 0, dropped_chunks = 0;

  // That the caller made the reservation, and that it did not end before a commit.
  absl::Status CheckCaller(const TransferIdentity& caller) const {
    WINNOW_RETURN_IF_ERROR(CheckOwner(identity, caller));
    return end_status;
  }
  absl::Status CheckOpen() const {
    if (IsOpen(state) || !end_status.ok()) return end_status;
    return absl::FailedPreconditionError("push: the reservation is committed already");
  }
  absl::Status CheckCommit(const CommitParams& params, int vocab_size) const {
    if (num_writing > 0) {
      return absl::DataLossError(
          absl::StrCat("commit: it came before ", num_writing, " chunk(s) were acknowledged"));
    }
    WINNOW_RETURN_IF_ERROR(CheckCommitTerms(params, plan, max_tokens, vocab_size));
    return receiver->CheckComplete(params.streams);
  }
};

// A reservation that was found, locked. If its lease is over, the constructor expires it, so that
// nobody sees it alive. If it ends here, on_ended is called after the lock is released.
class ReservationTable::Access {
 public:
  Access(ReservationTable& table, const std::string& id) : Access(table, {id, table.Find(id)}) {}
  Access(ReservationTable& table, Entry entry)
      : table_(table), id_(std::move(entry.first)), reservation_(std::move(entry.second)) {
    if (reservation_ == nullptr) return;
    lock_ = std::unique_lock<std::mutex>(reservation_->mutex);
    now_ = table_.clock_.Now();
    if (!IsOpen(reservation_->state) || now_ < reservation_->lease_end) return;
    // Not DEADLINE_EXCEEDED: it is not the caller's deadline, and another attempt may well succeed.
    End(SequenceState::kExpired, absl::FailedPreconditionError(
                                     "reservation: it expired, its lease was not renewed in time"));
  }
  ~Access() {
    if (lock_.owns_lock()) lock_.unlock();
    if (!why_.ok() && table_.on_ended_) table_.on_ended_(id_, end_state_, why_);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

  bool found() const { return reservation_ != nullptr; }
  bool is_open() const { return found() && IsOpen(reservation_->state); }
  bool is_live() const { return found() && IsLive(reservation_->state); }
  Reservation& operator*() const { return *reservation_; }
  Reservation* operator->() const { return reservation_.get(); }

  // Closes the books: no more chunks.
  void Close(SequenceState state) {
    reservation_->state = state;
    reservation_->received_bytes = reservation_->receiver->kv_payload_bytes();
    reservation_->dropped_chunks = reservation_->receiver->dropped_chunks();
    reservation_->receiver.reset();
    reservation_->ended = now_;
  }
  // Ends an open reservation before its commit and frees its memory. REQUIRES: is_open().
  void End(SequenceState state, const absl::Status& why) {
    Close(state);
    reservation_->end_status = why;
    why_ = why;
    end_state_ = state;
    if (reservation_->num_writing > 0) {
      reservation_->frees_later = true;
    } else {
      table_.FreeMemory(*reservation_);
    }
  }
  // Ends a committed one.
  void Finish(SequenceState state) {
    reservation_->state = state;
    reservation_->ended = now_;
    table_.FreeMemory(*reservation_);
  }
  void Renew() { reservation_->lease_end = now_ + table_.options_.ttl; }

 private:
  ReservationTable& table_;
  const std::string id_;
  const std::shared_ptr<Reservation> reservation_;
  std::unique_lock<std::mutex> lock_;
  // One instant for all that this access decides, so that it renews nothing that it saw late.
  absl::Time now_;
  absl::Status why_;  // not OK: the reservation ended here
  SequenceState end_state_ = SequenceState::kFailed;
};

ReservationTable::ReservationTable(KvTarget& target, const Clock& clock, Options options,
                                   OnEnded on_ended)
    : target_(target),
      clock_(clock),
      options_(std::move(options)),
      on_ended_(std::move(on_ended)),
      quota_(options_.quota_per_peer) {}

std::shared_ptr<ReservationTable::Reservation> ReservationTable::Find(
    const std::string& reservation_id) const {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = reservations_.find(reservation_id);
  return it == reservations_.end() ? nullptr : it->second;
}

std::vector<ReservationTable::Entry> ReservationTable::All() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {reservations_.begin(), reservations_.end()};
}

// Counts K and V of the plan and of what will be generated.
absl::StatusOr<PeerQuota::Share> ReservationTable::TakeShare(const ReserveParams& params) {
  const KvPlan& plan = params.plan;
  const int64_t token_bytes =
      int64_t{plan.num_layers} * plan.num_kv_heads * 2 * plan.head_dim * options_.kv_element_bytes;
  const std::string peer = params.peer.empty()
                               ? absl::StrCat("prefill worker ", params.identity.source_incarnation)
                               : params.peer;
  return quota_.Take(
      peer, plan.payload_bytes(options_.kv_element_bytes) + (params.max_tokens - 1) * token_bytes);
}

void ReservationTable::FreeMemory(Reservation& reservation) {
  target_.Free(reservation.handle);
  reservation.share = {};
}

absl::StatusOr<ReserveGrant> ReservationTable::Reserve(const ReserveParams& params) {
  const TransferIdentity& caller = params.identity;
  WINNOW_RETURN_IF_ERROR(
      CheckReserveIdentity(caller, options_.layout_digest, options_.incarnation));
  WINNOW_RETURN_IF_ERROR(CheckReservePlan(params, options_.shape, options_.max_streams));
  WINNOW_ASSIGN_OR_RETURN(const std::string id, options_.make_id ? options_.make_id() : RandomId());
  absl::StatusOr<PeerQuota::Share> share = TakeShare(params);
  const absl::StatusOr<int64_t> handle = share.ok()
                                             ? target_.Reserve(params.plan, params.max_tokens - 1)
                                             : absl::StatusOr<int64_t>(share.status());
  if (!handle.ok()) {
    absl::Status status = handle.status();
    if (absl::IsResourceExhausted(status)) SetRetryAfter(status, options_.retry_after);
    return status;
  }
  auto reservation = std::make_shared<Reservation>();
  reservation->identity = caller;
  reservation->identity.target_incarnation = options_.incarnation;
  const uint32_t wire_version =
      std::min(std::max(caller.wire_version, params.newest_wire_version), kWireVersion);
  reservation->identity.wire_version = wire_version;
  reservation->plan = params.plan;
  reservation->max_tokens = params.max_tokens;
  reservation->handle = *handle;
  reservation->share = *std::move(share);
  reservation->lease_end = clock_.Now() + options_.ttl;
  reservation->receiver = std::make_unique<KvReceiver>(
      KvReceiver::Options{.plan = params.plan,
                          .element_bytes = options_.kv_element_bytes,
                          .num_streams = params.num_streams,
                          .attempt = caller.attempt,
                          .credit_bytes_per_stream = options_.credit_bytes_per_stream});
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reservations_[id] = std::move(reservation);
  }
  return ReserveGrant{id, options_.ttl, options_.credit_bytes_per_stream, options_.incarnation,
                      wire_version};
}

absl::Status ReservationTable::OpenStream(const std::string& reservation_id,
                                          const TransferIdentity& identity, int stream) {
  Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(r->CheckCaller(identity));
  WINNOW_RETURN_IF_ERROR(r->CheckOpen());
  if (stream < 0 || stream >= r->receiver->num_streams()) {
    return absl::InvalidArgumentError(absl::StrCat("push: stream must be in [0, ",
                                                   r->receiver->num_streams(), "), got ", stream));
  }
  r.Renew();
  return absl::OkStatus();
}

// The copy runs without the reservation's lock, between two looks under it. Whatever ends the
// reservation meanwhile leaves the memory to the thread that finishes the last copy.
absl::StatusOr<ChunkAck> ReservationTable::OnChunk(const std::string& reservation_id, int stream,
                                                   const ChunkHeader& header,
                                                   const std::byte* payload) {
  const Entry entry{reservation_id, Find(reservation_id)};
  absl::StatusOr<ChunkAck> ack = Accept(entry, stream, header, payload);
  if (!ack.ok() || !ack->is_new) return ack;
  target_.Write(entry.second->handle, header, payload);
  Access r(*this, entry);
  if (--r->num_writing == 0 && r->frees_later) FreeMemory(*r);
  WINNOW_RETURN_IF_ERROR(r->CheckOpen());
  return ack;
}

absl::StatusOr<ChunkAck> ReservationTable::Accept(const Entry& entry, int stream,
                                                  const ChunkHeader& header,
                                                  const std::byte* payload) {
  Access r(*this, entry);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(r->CheckOpen());
  r->state = SequenceState::kReceiving;
  r.Renew();
  absl::StatusOr<ChunkAck> ack;
  if (header.stream != static_cast<uint32_t>(stream)) {
    ack = absl::InvalidArgumentError(
        absl::StrCat("push: a chunk of stream ", header.stream, " came on stream ", stream));
  } else {
    ack = r->receiver->OnChunk(header, payload);
  }
  if (!ack.ok()) {
    r.End(SequenceState::kFailed, ack.status());
  } else if (ack->is_new) {
    ++r->num_writing;
  }
  return ack;
}

void ReservationTable::OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes) {
  Access r(*this, reservation_id);
  if (r.is_open()) r->receiver->OnCreditsSent(static_cast<uint32_t>(stream), bytes);
}

void ReservationTable::Fail(const std::string& reservation_id, const absl::Status& why) {
  Access r(*this, reservation_id);
  if (r.is_open()) r.End(SequenceState::kFailed, why);
}

absl::StatusOr<int64_t> ReservationTable::Commit(const CommitParams& params,
                                                 const Activate& activate) {
  Access r(*this, params.reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(r->CheckCaller(params.identity));
  if (!r.is_open()) return r->received_bytes;  // said again
  absl::Status status = r->CheckCommit(params, options_.shape.vocab_size);
  if (status.ok()) {
    // Under the lock: the lease must not end between the scheduler's yes and the new state.
    status = activate({params.reservation_id, r->identity.request_id, r->identity.attempt,
                       r->handle, r->plan, params.next_position, params.tokens, params.sampling});
  }
  if (!status.ok()) {
    r.End(SequenceState::kFailed, status);
    return status;
  }
  r.Close(SequenceState::kDecoding);
  return r->received_bytes;
}

absl::StatusOr<absl::Duration> ReservationTable::Renew(const std::string& reservation_id,
                                                       const TransferIdentity& identity) {
  Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  WINNOW_RETURN_IF_ERROR(r->CheckCaller(identity));
  if (r.is_open()) r.Renew();
  return options_.ttl;
}

absl::Status ReservationTable::Abort(const std::string& reservation_id,
                                     const TransferIdentity& identity, const std::string& reason) {
  Access r(*this, reservation_id);
  if (!r.found() || !r->end_status.ok()) return absl::OkStatus();  // gone already
  WINNOW_RETURN_IF_ERROR(r->CheckCaller(identity));
  if (!r.is_open())
    return absl::FailedPreconditionError("abort: the reservation is committed; the router ends it");
  r.End(SequenceState::kAborted,
        absl::AbortedError(absl::StrCat("reservation: aborted by the prefill worker: ", reason)));
  return absl::OkStatus();
}

void ReservationTable::Finish(const std::string& reservation_id, SequenceState end) {
  Access r(*this, reservation_id);
  if (r.found() && r->state == SequenceState::kDecoding) r.Finish(end);
}

void ReservationTable::Expire() {
  std::vector<std::pair<absl::Time, std::string>> ended;
  for (const Entry& entry : All()) {
    const Access r(*this, entry);  // expires it if it is late
    if (!r.is_live()) ended.emplace_back(r->ended, entry.first);
  }
  std::sort(ended.begin(), ended.end());
  const size_t too_many = ended.size() > options_.max_ended ? ended.size() - options_.max_ended : 0;
  const absl::Time now = clock_.Now();
  std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < ended.size(); ++i) {
    if (i < too_many || now - ended[i].first > 2 * options_.ttl)
      reservations_.erase(ended[i].second);
  }
}

void ReservationTable::WhileHeld(const std::string& reservation_id,
                                 const std::function<void(bool is_live)>& look) {
  const Access r(*this, reservation_id);
  look(r.is_live());
}

absl::StatusOr<ReservationStatus> ReservationTable::Status(const std::string& reservation_id) {
  const Access r(*this, reservation_id);
  if (!r.found()) return NotFound();
  ReservationStatus status{.state = r->state,
                           .received_payload_bytes = r->received_bytes,
                           .dropped_chunks = r->dropped_chunks};
  if (r.is_open()) {
    status.received_payload_bytes = r->receiver->kv_payload_bytes();
    status.dropped_chunks = r->receiver->dropped_chunks();
    status.ttl = r->lease_end - clock_.Now();
  }
  return status;
}

int64_t ReservationTable::num_active() const {
  int64_t active = 0;
  for (const auto& [id, reservation] : All()) {
    std::lock_guard<std::mutex> lock(reservation->mutex);
    active += IsLive(reservation->state);
  }
  return active;
}

}  // namespace winnow
