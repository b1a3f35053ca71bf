#include "router/request_driver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"

namespace winnow {
namespace {

// What another attempt may cure: a worker that is gone, full or restarted, KV that was damaged or lost.
bool IsRetryableFailure(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      return true;
    default:
      return false;
  }
}

}  // namespace

RequestDriver::RequestDriver(v1::PrefillRequest request, Deadline deadline, WorkerClients& clients,
                             WorkerRegistry& registry, const Clock& clock, DriverEvents& events,
                             DriverCallbacks callbacks, Options options)
    : max_tokens_(request.sampling().max_tokens()), deadline_(deadline), clients_(clients), registry_(registry),
      clock_(clock), events_(events), callbacks_(std::move(callbacks)), options_(options),
      request_(std::move(request)) {}

template <typename Arg>
std::function<void(const Arg&)> RequestDriver::ForAttempt(void (RequestDriver::*handler)(const Arg&)) {
  return [self = shared_from_this(), attempt = attempt_, handler](const Arg& arg) {
    std::lock_guard<std::recursive_mutex> lock(self->mutex_);
    if (self->attempt_ == attempt && self->phase_ != Phase::kEnded) ((*self).*handler)(arg);
  };
}

void RequestDriver::Start() {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  StartAttempt();
}

void RequestDriver::StartAttempt() {
  ++attempt_;
  const absl::StatusOr<Placement> placement =
      registry_.Acquire(request_.prompt_ids_size(), max_tokens_ > 1, avoid_);
  if (!placement.ok()) {
    Retry("place", placement.status());
    return;
  }
  placement_ = *placement;
  placed_ = true;
  SendPrefill();
}

void RequestDriver::SendPrefill() {
  phase_ = Phase::kPrefill;
  prefill_has_token_ = false;
  request_.set_attempt(attempt_);
  request_.set_decode_address(placement_.decode_address);
  request_.set_decode_incarnation(placement_.decode_incarnation);
  request_.clear_forced_tokens();
  request_.mutable_forced_tokens()->Add(tokens_.begin(), tokens_.end());
  prefill_ = clients_.Prefill(placement_.prefill_address, request_, deadline_,
                              {ForAttempt(&RequestDriver::OnPrefillMessage), ForAttempt(&RequestDriver::OnPrefillEnded)});
}

void RequestDriver::SendResend(const std::string& decode_address, uint64_t decode_incarnation) {
  phase_ = Phase::kResend;
  v1::ResendRequest resend;
  resend.set_request_id(request_.request_id());
  resend.set_attempt(attempt_);
  resend.set_decode_address(decode_address);
  resend.set_decode_incarnation(decode_incarnation);
  prefill_ = clients_.Resend(placement_.prefill_address, resend, deadline_,
                             {ForAttempt(&RequestDriver::OnResendMessage), ForAttempt(&RequestDriver::OnPrefillEnded)});
}

void RequestDriver::OnPrefillMessage(const v1::PrefillResponse& message) {
  switch (message.event_case()) {
    case v1::PrefillResponse::kAccepted: tensor_parallel_ = message.accepted().tensor_parallel(); break;
    case v1::PrefillResponse::kReserved:
      OnReserved(message.reserved().decode_address(), message.reserved().reservation_id());
      break;
    case v1::PrefillResponse::kToken: {
      prefill_has_token_ = true;
      v1::DecodeResponse token;
      token.set_index(0);
      token.set_id(message.token().id());
      token.set_is_stop(message.token().is_stop());
      token.set_is_last(message.token().is_stop() || max_tokens_ == 1);
      Deliver(token);
      break;
    }
    case v1::PrefillResponse::kCommitted: OnCommitted(message.committed()); break;
    case v1::PrefillResponse::EVENT_NOT_SET: break;  // of a newer worker
  }
}

void RequestDriver::OnResendMessage(const v1::ResendResponse& message) {
  if (message.has_reserved()) OnReserved(message.reserved().decode_address(), message.reserved().reservation_id());
  if (message.has_committed()) OnCommitted(message.committed());
}

void RequestDriver::OnReserved(const std::string& decode_address, const std::string& reservation_id) {
  reservation_id_ = reservation_id;
  decode_address_ = decode_address;
  if (complete_) return;
  v1::DecodeRequest decode;
  decode.set_request_id(request_.request_id());
  decode.set_attempt(attempt_);
  decode.set_reservation_id(reservation_id);
  decode.set_from_index(std::max<int32_t>(1, static_cast<int32_t>(tokens_.size())));
  decode_ = clients_.Decode(decode_address, decode, deadline_,
                            {ForAttempt(&RequestDriver::OnDecodeMessage), ForAttempt(&RequestDriver::OnDecodeEnded)});
}

void RequestDriver::OnCommitted(const v1::Committed& committed) {
  committed_ = true;
  commit_ = committed;
  TryFinish();
}

void RequestDriver::Deliver(const v1::DecodeResponse& token) {
  early_[token.index()] = token;
  while (!early_.empty() && !complete_) {
    const auto next = early_.begin();
    if (next->first > static_cast<int32_t>(tokens_.size())) return;
    const v1::DecodeResponse response = next->second;
    early_.erase(next);
    if (response.index() < static_cast<int32_t>(tokens_.size())) continue;  // had it
    tokens_.push_back(response.id());
    callbacks_.token(response.index(), response.id(), response.is_stop());
    complete_ = complete_ || response.is_last();
  }
  TryFinish();
}

void RequestDriver::OnPrefillEnded(const absl::Status& status) {
  prefill_ = nullptr;
  if (committed_) return;  // its work is done
  Retry(phase_ == Phase::kResend ? "resend" : "prefill",
        status.ok() ? absl::UnavailableError("the prefill worker ended the stream early") : status);
}

void RequestDriver::OnDecodeEnded(const absl::Status& status) {
  decode_ = nullptr;
  if (complete_) return;
  if (!committed_ && prefill_ != nullptr && IsRetryableFailure(status)) {
    // The prefill worker sees the same loss and keeps the KV; its word decides how to go on.
    if (absl::IsUnavailable(status)) registry_.ReportUnreachable(decode_address_);
    return;
  }
  const absl::Status reason =
      status.ok() ? absl::UnavailableError("the decode worker ended the stream early") : status;
  if (committed_ && IsRetryableFailure(reason)) events_.OnMigration(reason);
  Retry("decode", reason);
}

void RequestDriver::Retry(const char* stage, const absl::Status& reason) {
  if (phase_ == Phase::kEnded) return;
  const bool can_resend = prefill_has_token_ && !committed_ && std::string(stage) == "prefill";
  if (absl::IsUnavailable(reason) && placed_) {
    const bool decode_is_gone = std::string(stage) == "decode" || can_resend;
    const std::string& address = decode_is_gone ? placement_.decode_address : placement_.prefill_address;
    avoid_.push_back(address);
    if (!decode_is_gone && std::string(stage) == "prefill" && reservation_id_.empty()) {
      // Either worker may be the one that cannot be reached: the reservation never came.
      avoid_.push_back(placement_.decode_address);
    } else {
      registry_.ReportUnreachable(address);
    }
  }
  EndAttempt(absl::StrCat("attempt failed: ", std::string(reason.message())));
  if (!IsRetryableFailure(reason) || static_cast<int>(attempt_) >= options_.max_attempts ||
      deadline_.HasPassed(clock_)) {
    Fail(reason);
    return;
  }
  events_.OnRetry(stage, reason);
  absl::Duration delay = options_.first_backoff * (1 << (attempt_ - 1));
  delay += delay * (std::hash<std::string>{}(request_.request_id()) % 100) / 200;  // jitter: up to a half more
  if (const auto hint = GetRetryAfter(reason)) delay = std::max(delay, *hint);
  ++attempt_;  // what still comes from the old attempt is dropped
  clients_.After(delay, [self = shared_from_this(), attempt = attempt_, can_resend] {
    std::lock_guard<std::recursive_mutex> lock(self->mutex_);
    if (self->attempt_ != attempt || self->phase_ == Phase::kEnded) return;
    --self->attempt_;  // StartAttempt counts it
    if (!can_resend) {
      self->StartAttempt();
      return;
    }
    const std::string old_prefill = self->placement_.prefill_address;
    const absl::StatusOr<Placement> other =
        self->registry_.Acquire(self->request_.prompt_ids_size(), true, self->avoid_);
    if (!other.ok() || other->prefill_address != old_prefill) {
      if (other.ok()) self->registry_.Release(*other, self->request_.prompt_ids_size());
      self->StartAttempt();
      return;
    }
    ++self->attempt_;
    self->placement_ = *other;
    self->placed_ = true;
    self->SendResend(other->decode_address, other->decode_incarnation);
  });
}

void RequestDriver::TryFinish() {
  if (!complete_ || !committed_ || phase_ == Phase::kEnded) return;
  EndAttempt("the generation is complete");
  phase_ = Phase::kEnded;
  callbacks_.finished(commit_, tensor_parallel_);
}

void RequestDriver::Fail(const absl::Status& status) {
  if (phase_ == Phase::kEnded) return;
  EndAttempt(std::string(status.message()));
  phase_ = Phase::kEnded;
  callbacks_.failed(status);
}

void RequestDriver::EndAttempt(const std::string& reason) {
  if (prefill_ != nullptr) prefill_->Cancel();
  prefill_ = nullptr;
  if (decode_ != nullptr) {
    decode_->Cancel();
    clients_.AbortDecode(decode_address_, reservation_id_, reason);
  }
  decode_ = nullptr;
  reservation_id_.clear();
  early_.clear();
  committed_ = committed_ && complete_;
  if (std::exchange(placed_, false)) registry_.Release(placement_, request_.prompt_ids_size());
}

void RequestDriver::Cancel(absl::StatusCode code) {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  Fail(absl::Status(code, "the request was ended by its client"));
}

void RequestDriver::Stop() {
  std::lock_guard<std::recursive_mutex> lock(mutex_);
  complete_ = true;
  TryFinish();
}

}  // namespace winnow
