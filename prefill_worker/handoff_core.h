#pragma once

#include <grpcpp/alarm.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/kv_push_client.h"
#include "transfer/chunk_codec.h"
#include "transfer/kv_sender.h"
#include "winnow/v1/kv_transfer.grpc.pb.h"

namespace winnow {

class GrpcKvHandoffs;

// One handoff over gRPC: reserves, pushes, renews, commits or aborts (docs/kv_wire_format.md).
// Callbacks share it, so that it outlives whoever dropped the handoff. Thread-safe.
class HandoffCore final : public PushTransport, public std::enable_shared_from_this<HandoffCore> {
 public:
  HandoffCore(GrpcKvHandoffs& owner, HandoffTarget target)
      : owner_(owner), target_(std::move(target)) {}

  void Reserve(const KvPlan& plan, int max_tokens,
               std::function<void(absl::StatusOr<KvHandoff::Grant>)> done);
  void Open(std::shared_ptr<KvStaging> staging);
  void OnKvReady(const KvReady& part, EventPtr event);
  void Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
              std::function<void(absl::StatusOr<KvHandoff::Summary>)> done);
  void Abort(const std::string& reason);

  void Send(int stream, const KvChunk& chunk) override;

 private:
  v1::TransferIdentity Identity() const;  // the lock is held
  absl::Status Outcome(const grpc::Status& status, const grpc::ClientContext& context) const;
  void OnGrant(const v1::ReserveResponse& response);
  v1::CommitRequest MakeCommit(const std::vector<int32_t>& tokens,
                               const SamplingParams& sampling) const;
  void SendCommit(v1::CommitRequest request, int tries_left,
                  std::function<void(absl::StatusOr<KvHandoff::Summary>)> done);
  KvHandoff::Summary Summarize() const;  // of one that was committed
  void ScheduleRenew();
  void SendRenew();
  // Of the stream of this number, which has a slot; the lock is held.
  void StartStream(int stream, const std::shared_ptr<grpc::Channel>& channel);
  void OnStreamEnded(int stream, const absl::Status& status);
  void ForEachStream(void (PushStream::*action)());

  GrpcKvHandoffs& owner_;
  const HandoffTarget target_;
  std::unique_ptr<v1::KvTransferService::Stub> stub_;
  KvPlan plan_;
  std::shared_ptr<KvStaging> staging_;  // what the sender reads
  std::unique_ptr<KvSender> sender_;
  absl::Time acknowledged_;  // set before the commit is sent, read after its answer

  mutable std::mutex mutex_;
  std::string reservation_id_;
  uint64_t target_incarnation_ = 0;
  uint32_t wire_version_ = kOldestWireVersion;  // until the grant tells what both speak
  int64_t credit_bytes_ = 0;
  absl::Duration ttl_;
  // A stream has a lock of its own: writing to it may write to its socket.
  struct StreamSlot {
    std::mutex mutex;
    PushStream* stream = nullptr;  // null once ended
  };
  std::vector<std::unique_ptr<StreamSlot>> streams_;
  grpc::Alarm renew_;
  bool ended_ = false;  // committed or aborted
};

}  // namespace winnow
