#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "plan/model_shape.h"
#include "transfer/handoff_messages.h"
#include "transfer/kv_receiver.h"
#include "transfer/kv_target.h"
#include "transfer/peer_quota.h"
#include "transfer/sequence_state.h"

namespace winnow {

struct ReservationStatus {
  SequenceState state = SequenceState::kReserved;
  int64_t received_payload_bytes = 0;  // K and V, each slot once
  int64_t dropped_chunks = 0;          // stale or seen before
  absl::Duration ttl;                  // left; 0 once committed or ended
};

// The decode worker's side of the handoff, without gRPC: leases, identities, states, idempotent
// answers, and the KV memory of every sequence from its reservation to its end. An ended
// reservation is remembered for two leases, so that late callers get the right answer: after an
// abort ABORTED, after an expiry FAILED_PRECONDITION, after a failure that failure's status, after
// a commit the commit's answer. A lease counts by the clock, whether Expire was called or not.
//
// Thread-safe. Every reservation has a lock of its own. Chunks of different streams are stored side
// by side without it; the chunks of one stream must come one after another.
class ReservationTable {
 public:
  struct Options {
    ModelShape shape;
    int kv_element_bytes = 2;
    std::string layout_digest;
    uint64_t incarnation = 0;
    absl::Duration ttl = absl::Seconds(20);
    int64_t credit_bytes_per_stream = 4 << 20;
    int max_streams = kMaxPushStreams;
    PeerQuota::Limits quota_per_peer;
    size_t max_ended = 4096;  // ended reservations remembered
    absl::Duration retry_after = absl::Milliseconds(200);
    // Null: 16 random bytes of the operating system, so that nobody can guess an id. A simulation
    // that must repeat itself counts instead.
    std::function<absl::StatusOr<std::string>()> make_id;
  };
  // Learns of each reservation that ends before its commit: kAborted, kExpired or kFailed. Called
  // without locks held.
  using OnEnded =
      std::function<void(const std::string& reservation_id, SequenceState, const absl::Status&)>;
  // Takes a committed sequence, or refuses it. Called under the reservation's lock: must not call
  // the table.
  using Activate = std::function<absl::Status(const CommittedSequence&)>;

  // `target` and `clock` must outlive the table.
  ReservationTable(KvTarget& target, const Clock& clock, Options options,
                   OnEnded on_ended = nullptr);

  // RESOURCE_EXHAUSTED (no memory, the peer's quota) with a retry hint · FAILED_PRECONDITION
  // (digest, incarnation, wire version) · INVALID_ARGUMENT. REQUIRES: the plan agrees with itself,
  // as wire/kv_plan_proto.h checks.
  absl::StatusOr<ReserveGrant> Reserve(const ReserveParams& params);
  // Renews the lease. NOT_FOUND · FAILED_PRECONDITION · INVALID_ARGUMENT (stream number).
  absl::Status OpenStream(const std::string& reservation_id, const TransferIdentity& identity,
                          int stream);
  // Stores a chunk that came on the opened stream `stream`, and renews the lease. Errors are those
  // of KvReceiver and end the reservation.
  absl::StatusOr<ChunkAck> OnChunk(const std::string& reservation_id, int stream,
                                   const ChunkHeader& header, const std::byte* payload);
  // `bytes` of the credits that OnChunk gave are about to leave for the sender.
  void OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes);
  // Ends an open reservation that received something unreadable. Does nothing for other ones.
  void Fail(const std::string& reservation_id, const absl::Status& why);
  // Hands the sequence to `activate` and returns the K and V payload bytes received. Idempotent: a
  // repeated commit gets the first answer. NOT_FOUND · FAILED_PRECONDITION · DATA_LOSS, or what
  // `activate` refuses with; the last two end the reservation.
  absl::StatusOr<int64_t> Commit(const CommitParams& params, const Activate& activate);
  absl::StatusOr<absl::Duration> Renew(const std::string& reservation_id,
                                       const TransferIdentity& identity);
  // Idempotent: OK if the id is unknown or the reservation ended before its commit.
  // FAILED_PRECONDITION if the caller does not own it or it was committed.
  absl::Status Abort(const std::string& reservation_id, const TransferIdentity& identity,
                     const std::string& reason);

  // A committed sequence ended: frees its memory. REQUIRES: `end` is kFinished, kAborted or
  // kFailed.
  void Finish(const std::string& reservation_id, SequenceState end);
  // Frees reservations that were not renewed in time and forgets the oldest ended ones. Call it a
  // few times per TTL.
  void Expire();

  // Calls `look` with whether the reservation is open or decodes. It neither commits nor ends
  // meanwhile: `look` runs under its lock and must not call the table.
  void WhileHeld(const std::string& reservation_id, const std::function<void(bool is_live)>& look);
  absl::StatusOr<ReservationStatus> Status(const std::string& reservation_id);  // NOT_FOUND
  int64_t num_active() const;  // reservations that are open or decode

 private:
  struct Reservation;
  class Access;
  using Entry = std::pair<std::string, std::shared_ptr<Reservation>>;

  absl::StatusOr<PeerQuota::Share> TakeShare(const ReserveParams& params);
  void FreeMemory(Reservation& reservation);
  // Enters a chunk in the books; a new chunk counts as being written.
  absl::StatusOr<ChunkAck> Accept(const Entry& entry, int stream, const ChunkHeader& header,
                                  const std::byte* payload);
  std::shared_ptr<Reservation> Find(const std::string& reservation_id) const;
  std::vector<Entry> All() const;

  KvTarget& target_;
  const Clock& clock_;
  const Options options_;
  const OnEnded on_ended_;
  PeerQuota quota_;
  mutable std::mutex mutex_;  // guards the map only
  std::map<std::string, std::shared_ptr<Reservation>> reservations_;
};

}  // namespace winnow
