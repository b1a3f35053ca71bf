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
#include "plan/kv_plan.h"
#include "plan/model_shape.h"
#include "plan/sampling_params.h"
#include "transfer/kv_receiver.h"
#include "transfer/kv_target.h"
#include "transfer/peer_quota.h"

namespace winnow {

// Who speaks for which request; docs/kv_wire_format.md.
struct TransferIdentity {
  std::string request_id;
  uint32_t attempt = 0;
  uint64_t source_incarnation = 0;
  uint64_t target_incarnation = 0;  // 0 in the first Reserve: any
  std::string layout_digest;
  uint32_t wire_version = 0;
};

struct ReserveRequest {
  TransferIdentity identity;
  KvPlan plan;
  int max_tokens = 1;
  int num_streams = 1;  // over all source ranks
  // The newest that the caller speaks; 0: only that of its identity.
  uint32_t newest_wire_version = 0;
  // Whose quota it takes from: the name in the caller's certificate. Empty: its incarnation.
  std::string peer;
};

struct ReserveGrant {
  std::string reservation_id;  // 16 random bytes
  absl::Duration ttl;
  int64_t credit_bytes_per_stream = 0;
  uint64_t target_incarnation = 0;
  uint32_t wire_version = 0;  // from now on, in identities too
};

struct CommitRequest {
  TransferIdentity identity;
  std::string reservation_id;
  int64_t num_prompt_tokens = 0;
  int64_t next_position = 0;
  std::vector<int32_t> tokens;
  SamplingParams sampling;
  std::vector<int64_t> entries_per_layer;
  std::vector<StreamSummary> streams;
};

// A sequence that is ready to be decoded. Whoever takes it frees the handle and tells Finish.
struct CommittedSequence {
  std::string reservation_id;
  std::string request_id;
  uint32_t attempt = 0;
  int64_t handle = 0;
  KvPlan plan;
  int64_t next_position = 0;
  std::vector<int32_t> tokens;
  SamplingParams sampling;
};

enum class ReservationState { kReserved, kReceiving, kCommitted, kFinished, kAborted, kExpired };

struct ReservationStatus {
  ReservationState state = ReservationState::kReserved;
  int64_t received_payload_bytes = 0;  // K and V, each slot once
  int64_t dropped_chunks = 0;          // stale or seen before
  absl::Duration ttl;                  // left; 0 once committed or ended
};

// The decode worker's side of the handoff, without gRPC: leases, identities, states, idempotent
// answers. What ended stays known for two leases, so that late messages get the right answer: after
// an abort ABORTED, after an expiry FAILED_PRECONDITION, after a failure that failure's status. A
// lease counts by the clock, whether Expire was called or not. Thread-safe; chunks are stored side
// by side, those of one stream in order.
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
    KvTarget* target = nullptr;
    const Clock* clock = nullptr;
    // Takes a committed sequence, or refuses it. Must not call the table back.
    std::function<absl::Status(const CommittedSequence&)> on_committed;
    // Tells of reservations that end before their commit: kExpired, or kAborted (by the prefill
    // worker: ABORTED). Called without locks held.
    std::function<void(const std::string& reservation_id, ReservationState state,
                       const absl::Status& why)>
        on_ended;
  };
  explicit ReservationTable(Options options)
      : options_(std::move(options)), quota_(options_.quota_per_peer) {}

  // RESOURCE_EXHAUSTED (no room, the peer's quota) with a retry hint · FAILED_PRECONDITION (digest,
  // incarnation, wire version) · INVALID_ARGUMENT. REQUIRES: the plan agrees with itself, as
  // wire/plan_proto.h checks.
  absl::StatusOr<ReserveGrant> Reserve(const ReserveRequest& request);
  // NOT_FOUND · FAILED_PRECONDITION · INVALID_ARGUMENT (stream number).
  absl::Status OpenStream(const std::string& reservation_id, const TransferIdentity& identity,
                          int stream);
  // Also renews the lease. See KvReceiver; an error ends the reservation. `stream` is the one that
  // was opened.
  absl::StatusOr<ChunkAck> OnChunk(const std::string& reservation_id, int stream,
                                   const ChunkHeader& header, const std::byte* payload);
  // `bytes` of the credits that OnChunk gave are about to leave for the sender.
  void OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes);
  // Ends a reservation whose stream failed before OnChunk (a checksum).
  void Fail(const std::string& reservation_id, const absl::Status& why);
  // The K and V payload bytes received. NOT_FOUND · FAILED_PRECONDITION · DATA_LOSS.
  absl::StatusOr<int64_t> Commit(const CommitRequest& request);
  absl::StatusOr<absl::Duration> Renew(const std::string& reservation_id,
                                       const TransferIdentity& identity);
  // Frees before the commit. OK for an unknown one; FAILED_PRECONDITION from a stranger or after
  // the commit.
  absl::Status Abort(const std::string& reservation_id, const TransferIdentity& identity,
                     const std::string& reason);
  absl::StatusOr<ReservationStatus> Status(const std::string& reservation_id);  // NOT_FOUND

  // A committed sequence ended and its handle is free.
  void Finish(const std::string& reservation_id);
  // Frees what was not renewed in time and forgets the oldest of what ended. Call it a few times
  // per TTL.
  void Expire();
  int64_t num_active() const;

  const Options& options() const { return options_; }

 private:
  struct Reservation {
    std::mutex mutex;  // guards what can change
    TransferIdentity identity;
    KvPlan plan;
    int max_tokens = 1;
    int64_t handle = 0;
    PeerQuota::Share share;  // while the handle lives
    ReservationState state = ReservationState::kReserved;
    absl::Time lease_end, ended;
    std::unique_ptr<KvReceiver> receiver;  // while open
    int num_writing = 0;                   // chunks that are being stored, without the lock
    bool frees_later = false;              // the room, by whoever stores the last of them
    absl::Status end_status;  // what late callers hear; OK while open and after the commit
    int64_t received_bytes = 0,
            dropped_chunks = 0;  // once not open; the first is the commit's answer

    bool is_open() const {
      return state == ReservationState::kReserved || state == ReservationState::kReceiving;
    }
  };
  class Access;
  void FreeRoom(Reservation& reservation) const;
  // Enters a chunk in the books; one that is new counts as being written.
  absl::StatusOr<ChunkAck> Accept(const std::string& reservation_id,
                                  const std::shared_ptr<Reservation>& reservation, int stream,
                                  const ChunkHeader& header, const std::byte* payload);
  std::shared_ptr<Reservation> Find(const std::string& reservation_id) const;
  std::vector<std::pair<std::string, std::shared_ptr<Reservation>>> All() const;
  absl::Status CheckCaller(const Reservation& reservation, const TransferIdentity& identity) const;
  absl::Status CheckOpen(const Reservation& reservation) const;
  absl::Status CheckIdentity(const TransferIdentity& identity) const;
  absl::StatusOr<PeerQuota::Share> TakeShare(const ReserveRequest& request);
  absl::Status CheckPlan(const ReserveRequest& request) const;
  absl::Status CheckCommit(const Reservation& reservation, const CommitRequest& request) const;

  const Options options_;
  PeerQuota quota_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Reservation>> reservations_;
};

}  // namespace winnow
