#include "prefill_worker/grpc_kv_handoff_factory.h"

#include <utility>

#include "prefill_worker/grpc_kv_handoff.h"

namespace winnow {

GrpcKvHandoffFactory::GrpcKvHandoffFactory(Options options)
    : options_(std::move(options)),
      tasks_("kv-handoff", *options_.clock),
      connections_(options_.tls, *options_.clock, tasks_) {}

GrpcKvHandoffFactory::~GrpcKvHandoffFactory() {
  std::unique_lock<std::mutex> lock(mutex_);
  // Cancelled streams end at once, aborts within their timeout.
  all_gone_.wait_for(lock, absl::ToChronoMilliseconds(options_.call_timeout + absl::Seconds(1)),
                     [this] { return num_live_ == 0; });
}

std::shared_ptr<KvHandoff> GrpcKvHandoffFactory::Create(const HandoffTarget& target) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_live_;
  }
  std::shared_ptr<void> alive(static_cast<void*>(nullptr), [this](void*) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--num_live_ == 0) all_gone_.notify_all();
  });
  auto handoff =
      std::make_shared<GrpcKvHandoff>(options_, connections_, tasks_, target, std::move(alive));
  // The caller's handle: dropping it aborts, while callbacks may own the handoff a little longer.
  KvHandoff* const handle = handoff.get();
  return std::shared_ptr<KvHandoff>(handle, [handoff = std::move(handoff)](KvHandoff*) mutable {
    handoff->Abort("the prefill worker dropped the request");
    handoff.reset();
  });
}

}  // namespace winnow
