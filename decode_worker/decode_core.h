#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "decode_worker/decode_events.h"
#include "decode_worker/decode_scheduler.h"
#include "engine/decode_engine.h"
#include "transfer/kv_target.h"
#include "transfer/reservation.h"

namespace winnow {

// What a decode worker has to do.
struct DecodeLoad {
  KvTarget::Blocks kv_blocks;
  int64_t sequences = 0;  // decoding
  int64_t tokens = 0;     // of these: their prompts' and as many as may be generated
};

// A decode worker without gRPC: takes the KV of prompts and generates their tokens. It owns the
// memory that KV goes to, the reservations and the scheduler, and with them a sequence from its
// reservation to its end (transfer/sequence_state.h):
//
//   reserved ──OnChunk──▶ receiving ──Commit──▶ decoding ──last token───────────▶ finished
//      │                      │                     ├──Cancel, no reader in time──▶ aborted
//      │                      │                     └──engine failure, deadline───▶ failed
//      └──────────┬───────────┘
//                 ├──Abort────────────────────────────────────────────────────────▶ aborted
//                 ├──lease not renewed in time────────────────────────────────────▶ expired
//                 └──damage, broken protocol, refused commit──────────────────────▶ failed
//
// An ended sequence holds no memory. Its tokens stay a few seconds for streams that come late or
// come again, its answers two leases for repeated calls.
//
// Thread-safe. Lock order: the lock of one reservation, then the scheduler's, then those of the KV
// memory, the quota and the map of reservations, which are never held together. The engine computes
// and chunks are copied without any. The destructor ends all streams with UNAVAILABLE; calls must
// have ended before it.
class DecodeCore {
 public:
  struct Options {
    ReservationTable::Options reservations;  // with the engine's shape
    DecodeScheduler::Options scheduler;
  };
  // `engine`, `clock` and `events` must outlive the core.
  DecodeCore(std::unique_ptr<KvTarget> kv, DecodeEngine& engine, const Clock& clock,
             DecodeEvents& events, Options options);
  DecodeCore(const DecodeCore&) = delete;
  DecodeCore& operator=(const DecodeCore&) = delete;

  // Calls of prefill workers: as in ReservationTable. UNAVAILABLE: the worker is draining.
  absl::StatusOr<ReserveGrant> Reserve(const ReserveParams& params);
  absl::Status OpenStream(const std::string& reservation_id, const TransferIdentity& identity,
                          int stream);
  absl::StatusOr<ChunkAck> OnChunk(const std::string& reservation_id, int stream,
                                   const ChunkHeader& header, const std::byte* payload);
  void OnCreditsSent(const std::string& reservation_id, int stream, int64_t bytes);
  // A message could not be read as chunks: ends its reservation. DATA_LOSS counts as damage.
  void Fail(const std::string& reservation_id, const absl::Status& why);
  absl::StatusOr<int64_t> Commit(const CommitParams& params);
  absl::StatusOr<absl::Duration> Renew(const std::string& reservation_id,
                                       const TransferIdentity& identity);
  absl::Status Abort(const std::string& reservation_id, const TransferIdentity& identity,
                     const std::string& reason);

  // Calls of routers: as in DecodeScheduler. A subscriber to a reservation that is unknown or has
  // ended gets NOT_FOUND, unless its tokens are still there. One that waits for a commit gets the
  // reason if the reservation ends instead.
  int64_t Subscribe(const DecodeSubscription& subscription, DecodeSubscriber subscriber);
  void Unsubscribe(const std::string& reservation_id, int64_t number);
  void Cancel(const std::string& reservation_id);

  // Calls of the process. Expire frees what was not renewed; call it a few times per TTL. After
  // Drain, Reserve takes nothing new.
  void Expire() { table_.Expire(); }
  void Drain() { draining_ = true; }
  DecodeLoad load() const;
  int64_t num_active() const { return table_.num_active(); }  // sequences, reserved to decoding
  // What is known of a reservation. NOT_FOUND.
  absl::StatusOr<ReservationStatus> Status(const std::string& reservation_id) {
    return table_.Status(reservation_id);
  }

 private:
  void OnReservationEnded(const std::string& reservation_id, SequenceState state,
                          const absl::Status& why);
  void OnSequenceEnded(const std::string& reservation_id, const absl::Status& status);

  const std::unique_ptr<KvTarget> kv_;
  DecodeEvents& events_;
  std::atomic<bool> draining_{false};
  ReservationTable table_;
  DecodeScheduler scheduler_;  // last: its thread uses all above
};

}  // namespace winnow
