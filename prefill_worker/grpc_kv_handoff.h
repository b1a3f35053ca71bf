#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/executor.h"
#include "prefill_worker/kv_handoff.h"
#include "rpc/channel.h"
#include "transfer/chunk_codec.h"

namespace winnow {

// Hands KV to decode workers over gRPC. Connections to a decode worker are kept and shared by its
// handoffs: one for calls and one per push stream. Those that nobody used for ten minutes go when a
// new one is made, so that decode workers that are gone leave nothing behind. Must outlive the
// handoffs it made; the destructor waits for what they left under way, because the last owner of a
// channel must not be a gRPC callback.
class GrpcKvHandoffs final : public KvHandoffFactory {
 public:
  struct Options {
    uint64_t incarnation = 0;  // of this prefill worker
    std::string layout_digest;
    int tensor_parallel = 1;
    int streams_per_rank = 1;
    uint32_t newest_wire_version = kWireVersion;
    absl::Duration call_timeout = absl::Seconds(5);  // of Reserve, Commit, Renew, Abort
    TlsFiles tls;
    const Clock* clock = nullptr;
  };
  explicit GrpcKvHandoffs(Options options)
      : options_(std::move(options)), event_waiter_("kv-events", 1) {}

  ~GrpcKvHandoffs() override;

  std::shared_ptr<KvHandoff> Create(const HandoffTarget& target) override;

  // Used by the handoffs.
  const Options& options() const { return options_; }
  absl::StatusOr<std::shared_ptr<grpc::Channel>> Channel(const std::string& address, int index);
  size_t num_connections() const;
  Executor& event_waiter() { return event_waiter_; }

 private:
  struct Connection {
    std::shared_ptr<grpc::Channel> channel;
    absl::Time last_used;
  };
  // The lock is held.
  void DropUnused(absl::Time now);

  const Options options_;
  Executor event_waiter_;  // waits for device events off the rank threads
  mutable std::mutex mutex_;
  std::condition_variable all_gone_;
  int num_live_ = 0;  // handoffs and what they left under way
  std::map<std::pair<std::string, int>, Connection> connections_;
};

}  // namespace winnow
