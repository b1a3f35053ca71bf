#include "rpc/grpc_deadline.h"

#include <algorithm>
#include <chrono>

namespace winnow {
namespace {

using SystemClock = std::chrono::system_clock;

// Farther deadlines are as good as none, and their sums could overflow.
constexpr absl::Duration kFar = absl::Hours(24 * 365);

}  // namespace

Deadline DeadlineOf(const grpc::ServerContextBase& context, const Clock& clock) {
  const SystemClock::time_point when = context.deadline();
  if (when == SystemClock::time_point::max()) return Deadline::Infinite();
  const absl::Duration left = absl::FromChrono(when - SystemClock::now());
  return left >= kFar ? Deadline::Infinite() : Deadline::After(clock, left);
}

void SetDeadline(grpc::ClientContext& context, Deadline deadline, const Clock& clock) {
  if (deadline.IsInfinite()) return;
  const absl::Duration left = std::min(deadline.Remaining(clock), kFar);
  context.set_deadline(SystemClock::now() + std::chrono::duration_cast<SystemClock::duration>(
                                                absl::ToChronoNanoseconds(left)));
}

}  // namespace winnow
