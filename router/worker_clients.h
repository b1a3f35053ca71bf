#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/deadline.h"
#include "common/trace_context.h"
#include "winnow/v1/decode.pb.h"
#include "winnow/v1/prefill.pb.h"

namespace winnow {

// A running call. Dropping it does not cancel it.
class StreamCall {
 public:
  virtual ~StreamCall() = default;
  // Asks the worker to stop; the call's end follows.
  virtual void Cancel() = 0;
};

// A stream's callbacks: messages, then the end, once. On any thread, one at a time, never from
// inside the starting call or Cancel: the caller may hold a lock that a callback takes.
template <typename Response>
struct StreamCallbacks {
  std::function<void(const Response&)> message;
  std::function<void(const absl::Status&)> ended;
};

// When a call must end, and the trace that it belongs to.
struct CallScope {
  Deadline deadline;
  TraceContext trace;
};

// The router's calls to workers. None blocks. Thread-safe.
class WorkerClients {
 public:
  virtual ~WorkerClients() = default;
  virtual std::shared_ptr<StreamCall> Prefill(const std::string& address,
                                              const v1::PrefillRequest& request,
                                              const CallScope& scope,
                                              StreamCallbacks<v1::PrefillResponse> callbacks) = 0;
  virtual std::shared_ptr<StreamCall> Resend(const std::string& address,
                                             const v1::ResendRequest& request,
                                             const CallScope& scope,
                                             StreamCallbacks<v1::ResendResponse> callbacks) = 0;
  virtual std::shared_ptr<StreamCall> Decode(const std::string& address,
                                             const v1::DecodeRequest& request,
                                             const CallScope& scope,
                                             StreamCallbacks<v1::DecodeResponse> callbacks) = 0;
  // Frees a reservation. Best effort: nobody learns whether it worked.
  virtual void AbortDecode(const std::string& address, const std::string& reservation_id,
                           const std::string& reason) = 0;
  // Asks a worker about itself. `done` runs once, on any thread, perhaps inside the call.
  virtual void GetInfo(const std::string& address, v1::WorkerRole role, Deadline deadline,
                       std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) = 0;
  // No worker is at this address any more: closes the connection when its last call has ended.
  virtual void Forget(const std::string& address) {}
};

}  // namespace winnow
