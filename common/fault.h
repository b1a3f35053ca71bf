#pragma once

#include "absl/status/status.h"
#include "common/fault_rules.h"

namespace winnow {

// Fault points: named places where a test makes something go wrong (docs/reliability.md lists
// them). Only test builds have them (WINNOW_FAULT_POINTS); elsewhere they are nothing.
//
// A test build reads the rules (fault_rules.h) from the file that the environment's
// WINNOW_FAULT_FILE names, and again whenever it changes; every fault is logged. Thread-safe.
#ifdef WINNOW_FAULT_POINTS

// Waits out a delay or a hold and ends the process for a kill by itself (SIGKILL, as a crash would
// look to others); what else comes back is the caller's to do. `instance` is a rank or a stream.
Fault FaultAt(const char* point, int instance = -1);
// For places that can only fail.
absl::Status FailAt(const char* point, int instance = -1);

#else

constexpr Fault FaultAt(const char*, int = -1) { return Fault::kNone; }
inline absl::Status FailAt(const char*, int = -1) { return absl::OkStatus(); }

#endif

}  // namespace winnow
