#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/backoff.h"
#include "common/clock.h"
#include "common/timer.h"
#include "router/retry_policy.h"
#include "router/wait_limit.h"
#include "router/waiting_room.h"
#include "router/worker_clients.h"
#include "router/worker_registry.h"

namespace winnow {

// How a generation went that came to its end.
struct DriverResult {
  v1::Committed committed;  // of the attempt that ended well
  int tensor_parallel = 0;  // of its prefill worker
};

// Whether the receiver of a token wants more.
enum class TokenReply {
  kContinue,
  kEnough,  // a stop string ended the text: the generation is complete
};

// What a driver reports about its request. One call at a time; `finished` or `failed` comes once,
// last. The driver holds its lock meanwhile, so none may call it, or wait for somebody who does.
struct DriverCallbacks {
  // A prefill worker took the request. Once per Prefill call.
  std::function<void()> accepted;
  // Tokens in order of index, without gaps or repeats. None follows kEnough: `finished` comes as
  // soon as the ledger is known.
  std::function<TokenReply(int32_t index, int32_t id, bool is_stop)> token;
  // A decode worker has the prompt's KV. Once per commit.
  std::function<void()> decode_ready = [] {};
  std::function<void(const DriverResult&)> finished;
  // Only codes of GenerationService.Generate.
  std::function<void(const absl::Status&)> failed;
};

// Where an attempt failed.
enum class DriverStage { kPlace, kPrefill, kResend, kDecode };
const char* DriverStageName(DriverStage stage);

// Counters that a driver moves.
class DriverEvents {
 public:
  virtual ~DriverEvents() = default;
  // Another attempt follows.
  virtual void OnRetry(DriverStage stage, const absl::Status& reason) {}
  // A decode worker was lost after the commit; the prompt runs again elsewhere. OnRetry follows.
  virtual void OnMigration(const absl::Status& reason) {}
  // The client went away or its deadline passed.
  virtual void OnCancelled(DriverStage stage) {}
};

// Drives one request through a prefill and a decode worker: dispatch, order of tokens, retry,
// resend, migration (docs/design.md §4). Event-driven; no call blocks. Kept alive by its own calls
// until it has ended. Thread-safe.
class RequestDriver : public std::enable_shared_from_this<RequestDriver> {
 public:
  struct Options {
    int max_attempts = 4;
    BackoffOptions backoff;
    double jitter = 0.5;  // in [0, 1], drawn for each request
    TraceContext trace;   // with the router's own span
    // Where it waits while all workers are full. Null: it tries again after their hint, which
    // counts as an attempt.
    std::shared_ptr<WaitingRoom> waiting_room;
    // For when no worker is ready: the one that was lost may be back, or its successor. This counts
    // as no attempt.
    WaitLimit wait_limit;
  };
  // What the drivers of a router share. All must outlive them.
  struct Parts {
    WorkerClients& clients;
    WorkerRegistry& registry;
    const Clock& clock;
    Timer& timer;
    DriverEvents& events;
  };
  // `request` has everything but attempt, decode worker and forced tokens.
  RequestDriver(v1::PrefillRequest request, Deadline deadline, const Parts& parts,
                DriverCallbacks callbacks, Options options);

  // No effect after Cancel.
  void Start();
  // Ends the request as failed with `code`, unless it has ended. A callback that runs meanwhile, on
  // another thread, is waited for: `failed` has run when Cancel returns.
  void Cancel(absl::StatusCode code);

 private:
  enum class Phase { kIdle, kPrefill, kResend, kWaiting, kEnded };

  // All with the lock held.
  void StartPrefill();
  void StartResend();
  CallScope Scope() const { return {deadline_, options_.trace}; }
  DriverStage Stage() const;  // what the attempt waits for; the lock is held
  // Chooses workers and counts this attempt's work on them. False when none are ready: the request
  // then waits for them, or, with `only_prefill`, nothing has changed.
  bool AcquireWorkers(const std::string& only_prefill);
  void OnPrefillMessage(const v1::PrefillResponse& message);
  void OnResendMessage(const v1::ResendResponse& message);
  void OnDecodeMessage(const v1::DecodeResponse& message);
  void OnPrefillEnded(const absl::Status& status);
  void OnDecodeEnded(const absl::Status& status);
  void OnReserved(const v1::Reserved& reserved);
  void OnCommitted(const v1::Committed& committed);
  void OpenDecode();
  void Deliver(int32_t index, int32_t id, bool is_stop, bool is_last);
  void JudgePrefillAttempt(const absl::Status& reason);
  void BlamePrefillAttempt(const absl::Status& reason);
  void Retry(DriverStage stage, const absl::Status& reason);
  void WaitForWorkers(const absl::Status& nobody);
  // Another attempt, if nothing ends the request before; a resend where that can do.
  void TryAgainAfter(absl::Duration delay, bool can_resend);
  // In the waiting room; `full`: the words of the last worker that was asked, if any.
  void WaitForRoom(const absl::Status& full);
  void LeaveWaitingRoom();
  void TryFinish();
  void Fail(const absl::Status& status);
  // Ends the calls of this attempt and frees what it holds; what still comes from them is dropped.
  void EndAttempt(const std::string& reason);

  // Wraps a handler for the current attempt: takes the lock, and drops what comes too late.
  template <typename Arg>
  std::function<void(const Arg&)> ForAttempt(void (RequestDriver::*handler)(const Arg&));

  const int32_t max_tokens_;
  const WorkerRegistry::Work work_;
  const Deadline deadline_;
  const Parts parts_;
  const DriverCallbacks callbacks_;
  const Options options_;

  std::mutex mutex_;  // of what follows
  v1::PrefillRequest request_;
  Phase phase_ = Phase::kIdle;
  uint64_t epoch_ = 0;              // counts attempts and waits, so that late callbacks are known
  std::vector<std::string> avoid_;  // addresses that failed this request

  // The request as its client sees it.
  std::vector<int32_t> tokens_;
  bool complete_ = false;  // the last token was sent, or the client has enough

  // Of the waiting room, from its first Enter on: one that was taken, then refused by a decode
  // worker, comes back to its old place and waits no longer in all.
  std::optional<RequestQueue::Entry> ticket_;
  std::optional<absl::Time> waits_until_;  // while no worker is ready
  int refusals_ = 0;                       // by full workers, since it last waited
  int failures_ = 0;                       // attempts that failed otherwise

  // The current attempt.
  int attempt_ = 0;
  Placement placement_;
  bool holds_prefill_ = false, holds_decode_ = false;  // counted in the registry
  std::shared_ptr<StreamCall> prefill_, decode_;
  bool accepted_ = false, reserved_ = false, committed_ = false;
  bool decode_is_done_ = false;  // the decode worker sent its last token
  std::string reservation_id_;
  std::map<int32_t, v1::DecodeResponse> early_;  // came before those in front of them
  DriverResult result_;
};

}  // namespace winnow
