#include "decode_worker/decode_core.h"

#include <utility>

namespace winnow {
namespace {

SequenceState StateOf(const absl::Status& status) {
  if (status.ok()) return SequenceState::kFinished;
  return absl::IsCancelled(status) ? SequenceState::kAborted : SequenceState::kFailed;
}

}  // namespace

DecodeCore::DecodeCore(std::unique_ptr<KvTarget> kv, DecodeEngine& engine, const Clock& clock,
                       DecodeEvents& events, Options options)
    : kv_(std::move(kv)),
      events_(events),
      table_(*kv_, clock, std::move(options.reservations),
             [this](const std::string& id, SequenceState state, const absl::Status& why) {
               OnReservationEnded(id, state, why);
             }),
      scheduler_(
          engine, clock, events,
          [this](const std::string& id, const absl::Status& status) {
            OnSequenceEnded(id, status);
          },
          options.scheduler) {}

// From the table, without locks.
void DecodeCore::OnReservationEnded(const std::string& reservation_id, SequenceState state,
                                    const absl::Status& why) {
  events_.OnReservationEnded(state, why);
  scheduler_.EndWaiting(reservation_id, why);
}

// From the scheduler's thread, without its lock: the reservation's lock comes first.
void DecodeCore::OnSequenceEnded(const std::string& reservation_id, const absl::Status& status) {
  table_.Finish(reservation_id, StateOf(status));
}

absl::StatusOr<ReserveGrant> DecodeCore::Reserve(const ReserveParams& params) {
  if (draining_) return absl::UnavailableError("reserve: the worker is draining");
  return table_.Reserve(params);
}

absl::Status DecodeCore::OpenStream(const std::string& reservation_id,
                                    const TransferIdentity& identity, int stream) {
  return table_.OpenStream(reservation_id, identity, stream);
}

absl::StatusOr<ChunkAck> DecodeCore::OnChunk(const std::string& reservation_id, int stream,
                                             const ChunkHeader& header, const std::byte* payload) {
  absl::StatusOr<ChunkAck> ack = table_.OnChunk(reservation_id, stream, header, payload);
  const bool is_kv = header.kind != ChunkKind::kPositions;
  if (ack.ok() && ack->is_new && is_kv) events_.OnKvWritten(header.payload_bytes);
  return ack;
}

void DecodeCore::OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes) {
  table_.OnCreditsSent(reservation_id, stream, bytes);
}

void DecodeCore::Fail(const std::string& reservation_id, const absl::Status& why) {
  if (absl::IsDataLoss(why)) events_.OnDamagedKv();
  table_.Fail(reservation_id, why);
}

absl::StatusOr<int64_t> DecodeCore::Commit(const CommitParams& params) {
  return table_.Commit(
      params, [this](const CommittedSequence& sequence) { return scheduler_.Activate(sequence); });
}

absl::StatusOr<absl::Duration> DecodeCore::Renew(const std::string& reservation_id,
                                                 const TransferIdentity& identity) {
  return table_.Renew(reservation_id, identity);
}

absl::Status DecodeCore::Abort(const std::string& reservation_id, const TransferIdentity& identity,
                               const std::string& reason) {
  return table_.Abort(reservation_id, identity, reason);
}

// The reservation is held while the stream joins: it has ended before, and the stream is refused,
// or it ends afterwards, and OnReservationEnded finds the stream waiting.
int64_t DecodeCore::Subscribe(const DecodeSubscription& subscription, DecodeSubscriber subscriber) {
  int64_t number = 0;
  table_.WhileHeld(subscription.reservation_id, [&](bool is_live) {
    const absl::Status if_absent =
        is_live ? absl::OkStatus()
                : absl::NotFoundError("decode: no such reservation, or it ended");
    number = scheduler_.Subscribe(subscription, std::move(subscriber), if_absent);
  });
  return number;
}

void DecodeCore::Unsubscribe(const std::string& reservation_id, int64_t number) {
  scheduler_.Unsubscribe(reservation_id, number);
}

void DecodeCore::Cancel(const std::string& reservation_id) { scheduler_.Cancel(reservation_id); }

DecodeLoad DecodeCore::load() const {
  return {.kv_blocks = kv_->blocks(),
          .sequences = scheduler_.num_sequences(),
          .tokens = scheduler_.num_tokens()};
}

}  // namespace winnow
