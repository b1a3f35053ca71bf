#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "prefill_worker/connection_pool.h"
#include "prefill_worker/deferred_tasks.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/kv_handoff_options.h"

namespace winnow {

// Hands KV to decode workers over gRPC. The handoffs share connections, one for calls and one per
// push stream, and a thread for what has to wait. Thread-safe. Must outlive the handles that it
// gave out; the destructor waits for calls and streams that dropped handoffs left under way.
class GrpcKvHandoffFactory final : public KvHandoffFactory {
 public:
  using Options = KvHandoffOptions;
  explicit GrpcKvHandoffFactory(Options options);
  ~GrpcKvHandoffFactory() override;

  std::shared_ptr<KvHandoff> Create(const HandoffTarget& target) override;

 private:
  const Options options_;
  DeferredTasks tasks_;
  ConnectionPool connections_;
  std::mutex mutex_;
  std::condition_variable all_gone_;
  int num_live_ = 0;  // handoffs, with what they left under way
};

}  // namespace winnow
