#include "router/request_driver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/peer_failure.h"

namespace winnow {
namespace {

// How many full workers a request asks, one after the other, before it waits.
constexpr int kMaxRefusals = 3;

}  // namespace

RequestDriver::RequestDriver(v1::PrefillRequest request, Deadline deadline, const Parts& parts,
                             DriverCallbacks callbacks, Options options)
    : max_tokens_(request.sampling().max_tokens()),
      work_{.prefill_tokens = request.prompt_ids_size(),
            .decode_tokens = int64_t{request.prompt_ids_size()} + max_tokens_},
      deadline_(deadline),
      parts_(parts),
      callbacks_(std::move(callbacks)),
      options_(options),
      request_(std::move(request)) {}

template <typename Arg>
std::function<void(const Arg&)> RequestDriver::ForAttempt(
    void (RequestDriver::*handler)(const Arg&)) {
  return [self = shared_from_this(), epoch = epoch_, handler](const Arg& arg) {
    std::lock_guard<std::mutex> lock(self->mutex_);
    if (self->epoch_ == epoch) ((*self).*handler)(arg);
  };
}

void RequestDriver::Start() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (phase_ != Phase::kIdle) return;
  const auto& room = options_.waiting_room;
  if (room != nullptr && room->MustWait(request_.priority())) {
    WaitForRoom(absl::OkStatus());
  } else {
    StartPrefill();
  }
}

void RequestDriver::Cancel(absl::StatusCode code) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (phase_ == Phase::kEnded) return;
  parts_.events.OnCancelled(Stage());
  Fail(absl::Status(code, code == absl::StatusCode::kDeadlineExceeded
                              ? "the request's deadline passed"
                              : "the client cancelled the request"));
}

DriverStage RequestDriver::Stage() const {
  if (committed_) return DriverStage::kDecode;
  if (phase_ == Phase::kPrefill) return DriverStage::kPrefill;
  return phase_ == Phase::kResend ? DriverStage::kResend : DriverStage::kPlace;
}

bool RequestDriver::AcquireWorkers(const std::string& only_prefill) {
  const absl::StatusOr<Placement> placement = parts_.registry.Acquire(
      work_, {.needs_decode = max_tokens_ > 1, .avoid = avoid_, .only_prefill = only_prefill});
  if (!placement.ok()) {
    if (only_prefill.empty()) WaitForWorkers(placement.status());
    return false;
  }
  waits_until_.reset();
  placement_ = *placement;
  holds_prefill_ = true;
  holds_decode_ = !placement_.decode_address.empty();
  return true;
}

void RequestDriver::StartPrefill() {
  phase_ = Phase::kPrefill;
  if (!AcquireWorkers("")) return;
  ++attempt_;
  request_.set_attempt(attempt_);
  request_.set_decode_address(placement_.decode_address);
  request_.set_decode_incarnation(placement_.decode_incarnation);
  request_.clear_forced_tokens();
  // When the client has all its tokens and only the ledger is missing, the prompt runs without
  // forced tokens, since a decode worker would have no step to make. Its token is dropped as a
  // repeat.
  if (!complete_) request_.mutable_forced_tokens()->Add(tokens_.begin(), tokens_.end());
  prefill_ = parts_.clients.Prefill(
      placement_.prefill_address, request_, Scope(),
      {ForAttempt(&RequestDriver::OnPrefillMessage), ForAttempt(&RequestDriver::OnPrefillEnded)});
}

void RequestDriver::StartResend() {
  phase_ = Phase::kResend;
  const std::string holder = placement_.prefill_address;
  if (!AcquireWorkers(holder)) {  // its holder, or every decode worker, is gone
    StartPrefill();
    return;
  }
  ++attempt_;
  v1::ResendRequest resend;
  resend.set_request_id(request_.request_id());
  resend.set_attempt(attempt_);
  resend.set_decode_address(placement_.decode_address);
  resend.set_decode_incarnation(placement_.decode_incarnation);
  prefill_ = parts_.clients.Resend(
      holder, resend, Scope(),
      {ForAttempt(&RequestDriver::OnResendMessage), ForAttempt(&RequestDriver::OnPrefillEnded)});
}

void RequestDriver::OnPrefillMessage(const v1::PrefillResponse& message) {
  switch (message.event_case()) {
    case v1::PrefillResponse::kAccepted:
      accepted_ = true;
      LeaveWaitingRoom();
      result_.tensor_parallel = message.accepted().tensor_parallel();
      parts_.registry.OnAccepted(placement_, work_, message.accepted());
      callbacks_.accepted();
      break;
    case v1::PrefillResponse::kRefused:
      parts_.registry.OnLoad(placement_.prefill_address, message.refused().load());
      break;
    case v1::PrefillResponse::kReserved:
      OnReserved(message.reserved());
      break;
    case v1::PrefillResponse::kToken: {
      const v1::FirstToken& token = message.token();
      Deliver(0, token.id(), token.is_stop(), token.is_stop() || max_tokens_ == 1);
      if (reserved_ && decode_ == nullptr && !committed_) OpenDecode();
      break;
    }
    case v1::PrefillResponse::kCommitted:
      OnCommitted(message.committed());
      break;
    case v1::PrefillResponse::EVENT_NOT_SET:
      break;  // of a newer worker
  }
}

void RequestDriver::OnResendMessage(const v1::ResendResponse& message) {
  if (message.has_reserved()) OnReserved(message.reserved());
  if (message.has_committed()) OnCommitted(message.committed());
}

void RequestDriver::OnReserved(const v1::Reserved& reserved) {
  reserved_ = true;
  reservation_id_ = reserved.reservation_id();
  // Token 0 may be the last one, so decoding is opened only after it.
  if (!tokens_.empty()) OpenDecode();
}

// Decode is opened before the commit and waits for it at the worker, so that no round trip lies
// between the commit and token 1.
void RequestDriver::OpenDecode() {
  if (complete_ || phase_ == Phase::kEnded) return;
  v1::DecodeRequest decode;
  decode.set_request_id(request_.request_id());
  decode.set_attempt(attempt_);
  decode.set_reservation_id(reservation_id_);
  decode.set_from_index(std::max<int32_t>(1, static_cast<int32_t>(tokens_.size())));
  StreamCallbacks<v1::DecodeResponse> callbacks;
  callbacks.message = ForAttempt(&RequestDriver::OnDecodeMessage);
  callbacks.ended = ForAttempt(&RequestDriver::OnDecodeEnded);
  decode_ = parts_.clients.Decode(placement_.decode_address, decode, Scope(), std::move(callbacks));
}

void RequestDriver::OnCommitted(const v1::Committed& committed) {
  committed_ = true;
  result_.committed = committed;
  parts_.registry.ReportSuccess(placement_.prefill_address);
  if (committed.decode_follows()) callbacks_.decode_ready();
  if (std::exchange(holds_prefill_, false)) {
    parts_.registry.ReleasePrefill(placement_, work_, accepted_);
  }
  if (committed.has_load()) parts_.registry.OnLoad(placement_.prefill_address, committed.load());
  if (options_.waiting_room != nullptr) options_.waiting_room->OnCapacity();
  TryFinish();
  if (phase_ == Phase::kEnded || decode_ != nullptr) return;
  if (reserved_) {
    OpenDecode();  // the first stream broke before the commit, but the decode worker lives
  } else {
    Fail(absl::InternalError("the prefill worker committed without a reservation"));
  }
}

void RequestDriver::OnDecodeMessage(const v1::DecodeResponse& message) {
  decode_is_done_ = decode_is_done_ || message.is_last();
  const auto next = static_cast<int32_t>(tokens_.size());
  if (message.index() < next || complete_) return;  // a repeat
  early_[message.index()] = message;
  while (!complete_ && !early_.empty() &&
         early_.begin()->first == static_cast<int32_t>(tokens_.size())) {
    const v1::DecodeResponse token = early_.extract(early_.begin()).mapped();
    Deliver(token.index(), token.id(), token.is_stop(), token.is_last());
  }
}

void RequestDriver::Deliver(int32_t index, int32_t id, bool is_stop, bool is_last) {
  if (complete_ || index != static_cast<int32_t>(tokens_.size())) return;  // a repeat
  tokens_.push_back(id);
  const TokenReply reply = callbacks_.token(index, id, is_stop);
  complete_ = is_last || reply == TokenReply::kEnough;
  TryFinish();
}

void RequestDriver::OnPrefillEnded(const absl::Status& status) {
  prefill_ = nullptr;
  if (committed_) return;  // its work is done
  const absl::Status reason = ReadFailure(status, deadline_.Remaining(parts_.clock));
  const DriverStage stage = phase_ == Phase::kResend ? DriverStage::kResend : DriverStage::kPrefill;
  JudgePrefillAttempt(reason);
  if (MayRetry(reason)) BlamePrefillAttempt(reason);
  Retry(stage, reason);
}

// Counts the failure against the worker that caused it: a prefill worker marks failures of its
// decode worker as a peer's.
void RequestDriver::JudgePrefillAttempt(const absl::Status& reason) {
  if (!CountsAgainstWorker(reason)) return;
  const bool is_decode = IsPeerFailed(reason) && !placement_.decode_address.empty();
  parts_.registry.ReportFailure(is_decode ? placement_.decode_address : placement_.prefill_address);
}

// Makes the next attempt prefer other workers. A prefill worker that did not even accept failed
// itself. Later, either worker may have failed, and a poll of both tells which.
void RequestDriver::BlamePrefillAttempt(const absl::Status& reason) {
  const bool prefill_is_silent = phase_ == Phase::kPrefill && !accepted_;
  if (prefill_is_silent) {
    avoid_.push_back(placement_.prefill_address);
    if (absl::IsUnavailable(reason)) parts_.registry.ReportUnreachable(placement_.prefill_address);
    return;
  }
  // A prefill worker that took the request is not the one that is full.
  if (!reserved_ && phase_ == Phase::kPrefill && !absl::IsResourceExhausted(reason)) {
    avoid_.push_back(placement_.prefill_address);
  }
  parts_.registry.Recheck(placement_.prefill_address);
  if (placement_.decode_address.empty()) return;
  avoid_.push_back(placement_.decode_address);
  parts_.registry.Recheck(placement_.decode_address);
}

void RequestDriver::OnDecodeEnded(const absl::Status& status) {
  decode_ = nullptr;
  if (complete_) return;
  const absl::Status reason = ReadFailure(status, deadline_.Remaining(parts_.clock));
  if (committed_ && CountsAgainstWorker(reason)) {
    parts_.registry.ReportFailure(placement_.decode_address);
  }
  if (MayRetry(reason)) {
    parts_.registry.Recheck(placement_.decode_address);
    // The prefill worker notices the loss, too, and keeps the KV: the end of its call decides
    // whether to resend.
    if (!committed_) return;
    avoid_.push_back(placement_.decode_address);
    if (absl::IsUnavailable(reason)) parts_.registry.ReportUnreachable(placement_.decode_address);
    parts_.events.OnMigration(reason);
  }
  Retry(DriverStage::kDecode, reason);
}

void RequestDriver::Retry(DriverStage stage, const absl::Status& reason) {
  const bool is_full = absl::IsResourceExhausted(reason);
  // A prefill worker that took the request is not the one that is full.
  const v1::WorkerRole role =
      phase_ == Phase::kPrefill && !accepted_ ? v1::WORKER_ROLE_PREFILL : v1::WORKER_ROLE_DECODE;
  // The prefill worker keeps KV that it could not ship, and keeps it on when the next decode worker
  // is full.
  const bool is_kept =
      stage == DriverStage::kPrefill ? reserved_ : stage == DriverStage::kResend && is_full;
  const bool can_resend = is_kept && !tokens_.empty() && !complete_;
  EndAttempt(absl::StrCat("attempt failed: ", std::string(reason.message())));
  // Another worker may have room now, whatever this one's hint says.
  const bool goes_elsewhere =
      is_full && refusals_ < kMaxRefusals && parts_.registry.HasOther(role, avoid_);
  if (is_full && !goes_elsewhere && tokens_.empty() && options_.waiting_room != nullptr) {
    parts_.events.OnRetry(stage, reason);
    WaitForRoom(reason);
    return;
  }
  absl::Duration delay;
  if (goes_elsewhere) {
    ++refusals_;
  } else {
    LeaveWaitingRoom();
    refusals_ = 0;
    delay = Backoff(options_.backoff, ++failures_, options_.jitter, reason);
  }
  if (!MayRetry(reason) || failures_ >= options_.max_attempts ||
      delay >= deadline_.Remaining(parts_.clock)) {
    Fail(reason);
    return;
  }
  LogRequest(spdlog::level::info, {request_.request_id(), options_.trace.trace_id},
             absl::StrCat("attempt ", attempt_, " failed in ", DriverStageName(stage), ": ",
                          reason.ToString()));
  parts_.events.OnRetry(stage, reason);
  TryAgainAfter(delay, can_resend);
}

void RequestDriver::WaitForWorkers(const absl::Status& nobody) {
  const absl::Time now = parts_.clock.Now();
  LeaveWaitingRoom();
  const bool is_first = !waits_until_;
  if (is_first) waits_until_ = options_.wait_limit.Until(now, deadline_.when());
  if (now >= *waits_until_) {
    Fail(nobody);
    return;
  }
  if (is_first) {
    LogRequest(spdlog::level::info, {request_.request_id(), options_.trace.trace_id},
               absl::StrCat("waits: ", nobody.message()));
    parts_.events.OnRetry(DriverStage::kPlace, nobody);
  }
  ++epoch_;
  TryAgainAfter(Backoff(options_.backoff, 1, options_.jitter, nobody), /*can_resend=*/false);
}

void RequestDriver::TryAgainAfter(absl::Duration delay, bool can_resend) {
  phase_ = Phase::kWaiting;
  parts_.timer.After(delay, [self = shared_from_this(), epoch = epoch_, can_resend] {
    std::lock_guard<std::mutex> lock(self->mutex_);
    if (self->epoch_ != epoch) return;  // cancelled meanwhile
    can_resend ? self->StartResend() : self->StartPrefill();
  });
}

void RequestDriver::WaitForRoom(const absl::Status& full) {
  ++epoch_;
  phase_ = Phase::kWaiting;
  refusals_ = 0;
  avoid_.clear();  // all of them may have room by then
  if (!ticket_) ticket_ = options_.waiting_room->Enter(request_.priority(), deadline_.when());
  const auto if_waiting = [self = shared_from_this(), epoch = epoch_](const auto& act) {
    std::lock_guard<std::mutex> lock(self->mutex_);
    if (self->epoch_ == epoch) act(*self);
  };
  options_.waiting_room->Wait(
      *ticket_, full,
      {.try_again = [if_waiting] { if_waiting([](RequestDriver& d) { d.StartPrefill(); }); },
       .refused =
           [if_waiting](const absl::Status& status) {
             if_waiting([&](RequestDriver& d) { d.Fail(status); });
           }});
}

void RequestDriver::LeaveWaitingRoom() {
  if (ticket_) options_.waiting_room->Leave(*ticket_);
}

void RequestDriver::TryFinish() {
  if (!complete_ || !committed_ || phase_ == Phase::kEnded) return;
  if (decode_is_done_ || decode_ != nullptr)
    parts_.registry.ReportSuccess(placement_.decode_address);
  EndAttempt("the generation is complete");
  phase_ = Phase::kEnded;
  callbacks_.finished(result_);
}

void RequestDriver::Fail(const absl::Status& status) {
  if (phase_ == Phase::kEnded) return;
  EndAttempt(std::string(status.message()));
  LeaveWaitingRoom();
  phase_ = Phase::kEnded;
  callbacks_.failed(ForClient(status));
}

void RequestDriver::EndAttempt(const std::string& reason) {
  ++epoch_;
  if (prefill_ != nullptr && !committed_) prefill_->Cancel();
  prefill_ = nullptr;
  // A decode worker that sent its last token frees everything itself. Without a commit the prefill
  // worker aborts the reservation, but that worker may be gone, so the router aborts, too.
  if (decode_ != nullptr && !decode_is_done_) decode_->Cancel();
  decode_ = nullptr;
  const bool frees_itself = decode_is_done_ || (committed_ && !result_.committed.decode_follows());
  if (reserved_ && !frees_itself) {
    parts_.clients.AbortDecode(placement_.decode_address, reservation_id_, reason);
  }
  if (std::exchange(holds_prefill_, false)) {
    parts_.registry.ReleasePrefill(placement_, work_, accepted_);
  }
  accepted_ = reserved_ = committed_ = decode_is_done_ = false;
  reservation_id_.clear();
  early_.clear();
  if (std::exchange(holds_decode_, false)) parts_.registry.ReleaseDecode(placement_, work_);
}

}  // namespace winnow
