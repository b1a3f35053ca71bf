#include "client/cli/interrupt.h"

#include <algorithm>
#include <csignal>

#include "absl/time/clock.h"

namespace winnow {
namespace {

StopFlag interrupted;  // a signal handler can reach nothing else

}  // namespace

const StopFlag& StopOnSignals() {
  for (const int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, [](int) { interrupted.Stop(absl::StatusCode::kCancelled); });
  }
  return interrupted;
}

void SleepUntil(absl::Time time, const StopFlag& stop) {
  while (!stop.IsStopped() && absl::Now() < time) {
    absl::SleepFor(std::min(time - absl::Now(), absl::Milliseconds(50)));
  }
}

}  // namespace winnow
