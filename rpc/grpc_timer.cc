#include "rpc/grpc_timer.h"

#include <grpcpp/alarm.h>

#include <chrono>
#include <memory>
#include <utility>

namespace winnow {

void GrpcTimer::After(absl::Duration delay, std::function<void()> callback) {
  // The alarm is owned by its own callback: a shared_ptr captured there would keep itself alive for
  // ever.
  auto* alarm = new grpc::Alarm;
  alarm->Set(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(delay),
             [alarm, callback = std::move(callback)](bool) {
               const std::unique_ptr<grpc::Alarm> owned(alarm);
               callback();
             });
}

}  // namespace winnow
