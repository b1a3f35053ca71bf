#include "prefill_worker/grpc_kv_handoff.h"

#include <utility>

#include "common/status_macros.h"
#include "prefill_worker/handoff_core.h"

namespace winnow {
namespace {

// How long a connection is kept that no handoff uses.
constexpr absl::Duration kKeepUnused = absl::Minutes(10);

// The handoff that its job holds; dropping it aborts what was not committed.
class GrpcKvHandoff final : public KvHandoff, public KvSink {
 public:
  explicit GrpcKvHandoff(std::shared_ptr<HandoffCore> core) : core_(std::move(core)) {}
  ~GrpcKvHandoff() override { core_->Abort("the prefill worker dropped the request"); }

  void Reserve(const KvPlan& plan, int max_tokens,
               std::function<void(absl::StatusOr<Grant>)> done) override {
    core_->Reserve(plan, max_tokens, std::move(done));
  }
  KvSink* Open(std::shared_ptr<KvStaging> staging) override {
    core_->Open(std::move(staging));
    return this;
  }
  void OnKvReady(const KvReady& part, EventPtr event) override {
    core_->OnKvReady(part, std::move(event));
  }
  void Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
              std::function<void(absl::StatusOr<Summary>)> done) override {
    core_->Commit(std::move(tokens), sampling, std::move(done));
  }
  void Abort(const std::string& reason) override { core_->Abort(reason); }

 private:
  const std::shared_ptr<HandoffCore> core_;
};

}  // namespace

std::shared_ptr<KvHandoff> GrpcKvHandoffs::Create(const HandoffTarget& target) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_live_;
  }
  std::shared_ptr<HandoffCore> core(new HandoffCore(*this, target), [this](HandoffCore* gone) {
    delete gone;
    std::lock_guard<std::mutex> lock(mutex_);
    if (--num_live_ == 0) all_gone_.notify_all();
  });
  return std::make_shared<GrpcKvHandoff>(std::move(core));
}

GrpcKvHandoffs::~GrpcKvHandoffs() {
  std::unique_lock<std::mutex> lock(mutex_);
  // Cancelled streams end at once, aborts within their timeout.
  all_gone_.wait_for(lock, absl::ToChronoMilliseconds(options_.call_timeout + absl::Seconds(1)),
                     [this] { return num_live_ == 0; });
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> GrpcKvHandoffs::Channel(const std::string& address,
                                                                       int index) {
  const absl::Time now = options_.clock->Now();
  std::lock_guard<std::mutex> lock(mutex_);
  if (const auto it = connections_.find({address, index}); it != connections_.end()) {
    it->second.last_used = now;
    return it->second.channel;
  }
  DropUnused(now);
  WINNOW_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel,
                          MakeChannel(address, {.own_connection = true, .tls = options_.tls}));
  connections_[{address, index}] = {channel, now};
  return channel;
}

void GrpcKvHandoffs::DropUnused(absl::Time now) {
  std::vector<std::shared_ptr<grpc::Channel>> unused;
  std::erase_if(connections_, [&](const auto& entry) {
    const auto& [channel, last_used] = entry.second;
    if (channel.use_count() > 1 || now - last_used < kKeepUnused) return false;
    unused.push_back(channel);
    return true;
  });
  // Off this thread, which may be a gRPC callback's.
  if (!unused.empty()) event_waiter_.Add([unused = std::move(unused)] {});
}

size_t GrpcKvHandoffs::num_connections() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return connections_.size();
}

}  // namespace winnow
