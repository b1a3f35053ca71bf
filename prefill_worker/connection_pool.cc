#include "prefill_worker/connection_pool.h"

#include <vector>

#include "common/status_macros.h"
#include "rpc/channel.h"

namespace winnow {
namespace {

constexpr absl::Duration kKeepUnused = absl::Minutes(10);

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> ConnectionPool::Get(const std::string& address,
                                                                   int index) {
  const absl::Time now = clock_.Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (const auto it = connections_.find({address, index}); it != connections_.end()) {
    it->second.last_used = now;
    return it->second.channel;
  }
  DropUnused(now);
  WINNOW_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                          MakeChannel(address, {.own_connection = true, .tls = tls_}));
  connections_[{address, index}] = {channel, now};
  return channel;
}

void ConnectionPool::DropUnused(absl::Time now) {
  std::vector<std::shared_ptr<grpc::Channel>> unused;
  std::erase_if(connections_, [&](const auto& entry) {
    const auto& [channel, last_used] = entry.second;
    if (channel.use_count() > 1 || now - last_used < kKeepUnused) return false;
    unused.push_back(channel);
    return true;
  });
  // Off this thread, which may be a gRPC callback's.
  if (!unused.empty()) tasks_.Run([unused = std::move(unused)] {});
}

}  // namespace winnow
