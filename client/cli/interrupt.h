#pragma once

#include "absl/time/time.h"
#include "common/stop_flag.h"

namespace winnow {

// From now on Ctrl-C and SIGTERM do not end the process, but set this flag.
const StopFlag& StopOnSignals();

// Sleeps until then, or until the flag is set.
void SleepUntil(absl::Time time, const StopFlag& stop);

}  // namespace winnow
