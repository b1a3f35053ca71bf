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
#include "router/driver_events.h"
#include "router/retry_policy.h"
#include "router/wait_limit.h"
#include "router/waiting_room.h"
#include "router/worker_clients.h"
#include "router/worker_registry.h"

namespace winnow {

// The result of a generation that succeeded.
struct DriverResult {
  v1::Committed committed;  // by the attempt that succeeded
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

// Drives one request through a prefill and a decode worker: dispatch, order of tokens, retry,
// resend, migration (docs/design.md §4). Event-driven: no method waits for a worker. The calls and
// timers that the driver starts keep it alive until the request has ended. Thread-safe.
class RequestDriver : public std::enable_shared_from_this<RequestDriver> {
 public:
  struct Options {
    int max_attempts = 4;
    BackoffOptions backoff;
    double jitter = 0.5;  // in [0, 1], drawn for each request
    TraceContext trace;   // with the router's own span
    // Where the request waits while all workers are full. Null: it tries again after the workers'
    // hint, which counts as an attempt.
    std::shared_ptr<WaitingRoom> waiting_room;
    // How long the request waits for a worker to become ready. This counts as no attempt.
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
  // The driver fills in attempt, decode worker and forced tokens of `request`.
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
  DriverStage Stage() const;  // what the attempt waits for
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
  // Starts another attempt later, unless the request ends before: a resend if the KV was kept.
  void TryAgainAfter(absl::Duration delay, bool can_resend);
  // Joins the waiting room. `full`: the refusal of the last worker that was asked, or OK.
  void WaitForRoom(const absl::Status& full);
  void LeaveWaitingRoom();
  void TryFinish();
  void Fail(const absl::Status& status);
  // Ends the calls of this attempt and frees what they hold. Later callbacks of theirs are dropped.
  void EndAttempt(const std::string& reason);

  // Wraps a handler for the current attempt: takes the lock, and ignores calls after its end.
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
  uint64_t epoch_ = 0;              // counts attempts and waits, to recognize late callbacks
  std::vector<std::string> avoid_;  // addresses that failed this request

  // The request as its client sees it.
  std::vector<int32_t> tokens_;
  bool complete_ = false;  // the last token was sent, or the client has enough

  // Our waiting-room entry. Kept across attempts, so that a request sent back by a full decode
  // worker keeps its queue position and its original wait limit.
  std::optional<RequestQueue::Entry> ticket_;
  std::optional<absl::Time> waits_until_;  // while no worker is ready
  int refusals_ = 0;                       // by full workers, since the request last waited
  int failures_ = 0;                       // attempts that failed otherwise

  // The current attempt.
  int attempt_ = 0;
  Placement placement_;
  bool holds_prefill_ = false, holds_decode_ = false;  // counted in the registry
  std::shared_ptr<StreamCall> prefill_, decode_;
  bool accepted_ = false, reserved_ = false, committed_ = false;
  bool decode_is_done_ = false;  // the decode worker sent its last token
  std::string reservation_id_;
  std::map<int32_t, v1::DecodeResponse> early_;  // tokens that came before their predecessors
  DriverResult result_;
};

}  // namespace winnow
