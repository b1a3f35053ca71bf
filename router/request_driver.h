#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "router/worker_clients.h"
#include "router/worker_registry.h"

namespace winnow {

// What the driver of one request tells. One call at a time; `finished` or `failed` comes once, last. Must not call the driver
// back, but for Stop.
struct DriverCallbacks {
  // Tokens in order of index, without gaps or repeats.
  std::function<void(int32_t index, int32_t id, bool is_stop)> token;
  std::function<void(const v1::Committed& committed, int tensor_parallel)> finished;
  std::function<void(const absl::Status&)> failed;
};

// Counters that a driver moves.
class DriverEvents {
 public:
  virtual ~DriverEvents() = default;
  virtual void OnRetry(const char* stage, const absl::Status& reason) {}
  virtual void OnMigration(const absl::Status& reason) {}
};

// Drives one request through a prefill and a decode worker: dispatch, order of tokens, retry, resend, migration. Event-driven;
// no call blocks. Kept alive by its own calls until it has ended.
class RequestDriver : public std::enable_shared_from_this<RequestDriver> {
 public:
  struct Options {
    int max_attempts = 4;
    absl::Duration first_backoff = absl::Milliseconds(100);  // doubles, with jitter
  };
  // `request` has everything but attempt, decode worker and forced tokens. The references must outlive the driver.
  RequestDriver(v1::PrefillRequest request, Deadline deadline, WorkerClients& clients, WorkerRegistry& registry,
                const Clock& clock, DriverEvents& events, DriverCallbacks callbacks, Options options);

  void Start();
  // Ends the request as failed with `code`.
  void Cancel(absl::StatusCode code);
  // The caller has all it wants (a stop string): no more tokens; `finished` follows. May be called from `token`.
  void Stop();

 private:
  enum class Phase { kIdle, kPrefill, kResend, kEnded };

  // All with the lock held.
  void StartAttempt();
  void SendPrefill();
  void SendResend(const std::string& decode_address, uint64_t decode_incarnation);
  void OnReserved(const std::string& decode_address, const std::string& reservation_id);
  void OnCommitted(const v1::Committed& committed);
  void Deliver(const v1::DecodeResponse& token);
  void OnDecodeEnded(const absl::Status& status);
  void OnPrefillEnded(const absl::Status& status);
  void Retry(const char* stage, const absl::Status& reason);
  void TryFinish();
  void Fail(const absl::Status& status);
  void EndAttempt(const std::string& reason);

  // Wraps a callback of the current attempt: takes the lock, and drops what comes from an earlier attempt.
  template <typename Arg>
  std::function<void(const Arg&)> ForAttempt(void (RequestDriver::*handler)(const Arg&));
  void OnPrefillMessage(const v1::PrefillResponse& message);
  void OnResendMessage(const v1::ResendResponse& message);
  void OnDecodeMessage(const v1::DecodeResponse& message) { Deliver(message); }

  const int32_t max_tokens_;
  const Deadline deadline_;
  WorkerClients& clients_;
  WorkerRegistry& registry_;
  const Clock& clock_;
  DriverEvents& events_;
  const DriverCallbacks callbacks_;
  const Options options_;

  std::recursive_mutex mutex_;  // Stop may come from inside a callback
  v1::PrefillRequest request_;
  Phase phase_ = Phase::kIdle;
  uint32_t attempt_ = 0;
  std::vector<std::string> avoid_;  // addresses that failed this request
  Placement placement_;
  bool placed_ = false;
  std::shared_ptr<StreamCall> prefill_, decode_;
  std::string reservation_id_, decode_address_;
  bool prefill_has_token_ = false;  // this attempt's prefill got as far as its KV being retained

  std::vector<int32_t> tokens_;                // sent to the client
  std::map<int32_t, v1::DecodeResponse> early_;  // tokens that came before those in front of them
  bool complete_ = false;                      // the last token was sent, or Stop was called
  bool committed_ = false;
  v1::Committed commit_;
  int tensor_parallel_ = 0;
};

}  // namespace winnow
