#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "prefill_worker/connection_pool.h"
#include "prefill_worker/deferred_tasks.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/kv_handoff_options.h"
#include "prefill_worker/kv_lease.h"
#include "prefill_worker/push_streams.h"
#include "transfer/kv_sender.h"
#include "transfer/push_transport.h"

namespace winnow {

// One handoff over gRPC: a lease at the decode worker, a sender that cuts the KV into chunks, and
// the transport that carries the chunks. Callbacks share the handoff, so that it outlives the
// caller's handle; GrpcKvHandoffFactory makes it. Thread-safe.
class GrpcKvHandoff final : public KvHandoff,
                            public KvSink,
                            public std::enable_shared_from_this<GrpcKvHandoff> {
 public:
  // The references must outlive `alive`, which the handoff lets go at its very end.
  GrpcKvHandoff(const KvHandoffOptions& options, ConnectionPool& connections, DeferredTasks& tasks,
                const HandoffTarget& target, std::shared_ptr<void> alive);

  void Reserve(const KvPlan& plan, int max_tokens,
               std::function<void(absl::StatusOr<Grant>)> done) override;
  KvSink* Open(std::shared_ptr<KvStaging> staging) override;
  void OnKvReady(const KvReady& part, EventPtr event) override;
  void Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
              std::function<void(absl::StatusOr<Summary>)> done) override;
  void Abort(const std::string& reason) override;

 private:
  using CommitDone = std::function<void(absl::StatusOr<Summary>)>;

  KvSender::Options SenderOptions(const KvStaging& staging, PushTransport& transport) const;
  absl::Status OpenStreams(PushStreams& streams, std::shared_ptr<const KvStaging> staging);
  // Fails the sender once the decode worker has acknowledged nothing for as long as the lease.
  void WatchForSilence();
  void OnEvent(const KvReady& part, const absl::Status& status);
  // No more parts will come: waits for the acknowledgements, then commits.
  void FinishSending(const std::vector<int32_t>& tokens, const SamplingParams& sampling,
                     const CommitDone& done);
  v1::CommitRequest MakeCommit(const std::vector<int32_t>& tokens,
                               const SamplingParams& sampling) const;

  const std::shared_ptr<void> alive_;  // first, so that it goes last
  const KvHandoffOptions& options_;
  const Clock& clock_;
  ConnectionPool& connections_;
  DeferredTasks& tasks_;
  const HandoffTarget target_;
  const std::shared_ptr<KvLease> lease_;
  KvPlan plan_;

  // Set by Open, whose lock orders it before Abort.
  std::unique_ptr<PushTransport> transport_;
  std::unique_ptr<KvSender> sender_;

  std::mutex mutex_;
  bool aborted_ = false;
  int parts_waiting_ = 0;         // for their events
  std::function<void()> finish_;  // for the last of these parts to call
};

}  // namespace winnow
