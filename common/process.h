#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/http_server.h"

namespace winnow {

// What the three server programs' main functions share.

// SIGTERM and SIGINT are only taken by WaitForStopSignal from now on. Call before any thread
// starts.
void BlockStopSignals();
// True once one of them came; false after `timeout`.
bool WaitForStopSignal(absl::Duration timeout);
// Says how much runs, and waits until nothing does, `longest` at most.
void WaitUntilIdle(const std::function<int64_t()>& num_running, absl::Duration longest,
                   const Clock& clock);
// Keeps freed memory of up to half a gigabyte per arena for reuse: a worker that receives or loads
// gigabytes would otherwise map and clear the same pages again and again.
void KeepFreedMemory();
// Logs an error; what main returns.
int ExitCode(const absl::Status& status);

// Serves /metrics, /healthz (200 while the process lives) and /readyz (200 while `ready`). Null for
// an empty address.
absl::StatusOr<std::unique_ptr<HttpServer>> StartStatusPages(const std::string& listen,
                                                             const std::atomic<bool>& ready,
                                                             std::function<std::string()> metrics);

// The name that a model folder is served under: its last part.
std::string ModelId(const std::string& model_dir);

}  // namespace winnow
