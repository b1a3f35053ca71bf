#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "plan/kv_plan.h"
#include "prefill_worker/deferred_tasks.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/kv_handoff_options.h"
#include "winnow/v1/kv_transfer.grpc.pb.h"

namespace winnow {

// A reservation at a decode worker over gRPC: asks for it, renews it every third of its time to
// live, and commits or aborts it (docs/kv_wire_format.md). The calls under way share the lease, so
// that it outlives the handoff that dropped it. Thread-safe. Callbacks come once, on any thread,
// and never from inside the call that was given them.
class KvLease : public std::enable_shared_from_this<KvLease> {
 public:
  // `options` and `tasks` must outlive `alive`, which the lease lets go at its very end.
  KvLease(const KvHandoffOptions& options, DeferredTasks& tasks, HandoffTarget target,
          std::shared_ptr<void> alive)
      : alive_(std::move(alive)), options_(options), tasks_(tasks), target_(std::move(target)) {}

  // Asks the decode worker behind `channel`; renews from the grant on. Call it once. A grant that
  // comes after Abort is given back.
  void Reserve(const std::shared_ptr<grpc::Channel>& channel, const KvPlan& plan, int max_tokens,
               std::function<void(absl::StatusOr<KvHandoff::Grant>)> done);

  // What the decode worker granted. Valid after Reserve's callback.
  struct Terms {
    int64_t credit_bytes_per_stream = 0;
    uint32_t wire_version = kOldestWireVersion;
    absl::Duration ttl;
  };
  Terms terms() const;
  // A stream's opening message, but for the stream's number.
  v1::PushOpen MakePushOpen() const;

  // Commits; `request` is ready but for the identity and the reservation's id. Commit is
  // idempotent, so that UNAVAILABLE is tried again, with pauses, while the request has time.
  void Commit(v1::CommitRequest request, std::function<void(const absl::Status&)> done);

  // Frees the reservation, if there is one that was not committed. Idempotent.
  void Abort(const std::string& reason);
  // Committed or aborted.
  bool has_ended() const;

 private:
  using CommitDone = std::function<void(const absl::Status&)>;

  v1::TransferIdentity IdentityLocked() const;
  absl::Status Outcome(const grpc::Status& status, const grpc::ClientContext& context) const;
  void OnGrant(const v1::ReserveResponse& response);
  void ScheduleRenew();
  void SendRenew();
  void SendCommit(const v1::CommitRequest& request, int failed_tries, CommitDone done);
  void OnCommitAnswer(const v1::CommitRequest& request, int failed_tries,
                      const absl::Status& answer, const CommitDone& done);

  const std::shared_ptr<void> alive_;  // first, so that it goes last
  const KvHandoffOptions& options_;
  DeferredTasks& tasks_;
  const HandoffTarget target_;
  std::unique_ptr<v1::KvTransferService::Stub> stub_;

  mutable std::mutex mutex_;
  std::string reservation_id_;  // empty: not granted yet
  uint64_t target_incarnation_ = 0;
  Terms terms_;
  bool ended_ = false;
};

}  // namespace winnow
