#include "prefill_worker/kv_lease.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fault.h"
#include "common/peer_failure.h"
#include "rpc/grpc_status.h"
#include "rpc/trace_metadata.h"
#include "rpc/unary_call.h"
#include "wire/kv_plan_proto.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// How long a grant is waited for after the request has ended.
constexpr absl::Duration kLateGrant = absl::Seconds(1);

constexpr int kCommitTries = 3;

// A decode worker that grants less, or nothing, does not make us renew without a pause.
constexpr absl::Duration kShortestTtl = absl::Milliseconds(10);

// A call that ends within the options' timeout and at `latest`.
template <typename Request, typename Response>
std::shared_ptr<UnaryCall<Request, Response>> MakeCall(const KvHandoffOptions& options,
                                                       const HandoffTarget& target,
                                                       Deadline latest) {
  const Clock& clock = *options.clock;
  auto call = MakeUnaryCall<Request, Response>(
      Deadline::After(clock, options.call_timeout).Earlier(latest), clock);
  SendTrace(call->context, target.trace);
  return call;
}

}  // namespace

v1::TransferIdentity KvLease::IdentityLocked() const {
  v1::TransferIdentity identity;
  identity.set_request_id(target_.request_id);
  identity.set_attempt(target_.attempt);
  identity.set_source_incarnation(options_.incarnation);
  identity.set_target_incarnation(target_incarnation_ != 0 ? target_incarnation_
                                                           : target_.decode_incarnation);
  identity.set_layout_digest(options_.layout_digest);
  identity.set_wire_version(terms_.wire_version);
  return identity;
}

// The status of a call, whose failure is the decode worker's. A call that took too long while the
// request still has time is UNAVAILABLE: another decode worker may do.
absl::Status KvLease::Outcome(const grpc::Status& status,
                              const grpc::ClientContext& context) const {
  absl::Status result = FromGrpcStatus(status, context);
  if (absl::IsDeadlineExceeded(result) && !target_.deadline.HasPassed(*options_.clock)) {
    result = absl::UnavailableError(absl::StrCat("decode worker ", target_.decode_address,
                                                 ": no answer within ",
                                                 absl::FormatDuration(options_.call_timeout)));
  }
  SetPeerFailed(result);
  return result;
}

void KvLease::Reserve(const std::shared_ptr<grpc::Channel>& channel, const KvPlan& plan,
                      int max_tokens, std::function<void(absl::StatusOr<KvHandoff::Grant>)> done) {
  stub_ = v1::KvTransferService::NewStub(channel);
  // A little longer than the request's own deadline: a late id becomes known, and is given back.
  auto call = MakeCall<v1::ReserveRequest, v1::ReserveResponse>(
      options_, target_, Deadline::At(target_.deadline.when() + kLateGrant));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    terms_.wire_version = OldestWireVersionFor(plan);
    *call->request.mutable_identity() = IdentityLocked();
  }
  *call->request.mutable_plan() = ToProto(plan);
  call->request.set_max_tokens(max_tokens);
  const int sending = std::min(options_.tensor_parallel, plan.num_kv_heads);
  call->request.set_num_streams(sending * options_.streams_per_rank);
  call->request.set_newest_wire_version(options_.newest_wire_version);
  stub_->async()->Reserve(
      &call->context, &call->request, &call->response,
      [self = shared_from_this(), call, done = std::move(done)](const grpc::Status& status) {
        if (const absl::Status lost = FailAt("prefill.reserve.answer"); !lost.ok()) {
          done(lost);
          return;
        }
        if (!status.ok()) {
          done(self->Outcome(status, call->context));
          return;
        }
        self->OnGrant(call->response);
        done(KvHandoff::Grant{call->response.reservation_id(), self->target_.decode_address});
      });
}

void KvLease::OnGrant(const v1::ReserveResponse& response) {
  bool aborted;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reservation_id_ = response.reservation_id();
    target_incarnation_ = response.target_incarnation();
    terms_ = {.credit_bytes_per_stream = response.credit_bytes_per_stream(),
              .wire_version = response.wire_version(),
              .ttl = std::max(kShortestTtl, absl::Milliseconds(response.ttl_ms()))};
    aborted = std::exchange(ended_, false);
  }
  if (aborted) {  // while the call was under way, so without an id to abort
    Abort("the request ended before its reservation came");
  } else {
    ScheduleRenew();
  }
}

KvLease::Terms KvLease::terms() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return terms_;
}

v1::PushOpen KvLease::MakePushOpen() const {
  std::lock_guard<std::mutex> lock(mutex_);
  v1::PushOpen open;
  *open.mutable_identity() = IdentityLocked();
  open.set_reservation_id(reservation_id_);
  return open;
}

bool KvLease::has_ended() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return ended_;
}

void KvLease::ScheduleRenew() {
  // Weak: a lease that ends does not stay for its renewal.
  tasks_.RunAt(options_.clock->Now() + terms().ttl / 3, [weak = weak_from_this()] {
    if (const std::shared_ptr<KvLease> self = weak.lock(); self != nullptr) self->SendRenew();
  });
}

void KvLease::SendRenew() {
  auto call = MakeCall<v1::RenewRequest, v1::RenewResponse>(options_, target_, target_.deadline);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) return;
    *call->request.mutable_identity() = IdentityLocked();
    call->request.set_reservation_id(reservation_id_);
  }
  if (FaultAt("prefill.renew") == Fault::kDrop) return;
  stub_->async()->Renew(&call->context, &call->request, &call->response,
                        [self = shared_from_this(), call](const grpc::Status& status) {
                          // A lost reservation shows in the streams or at the commit; a lost call
                          // is tried again.
                          if (status.error_code() != grpc::StatusCode::NOT_FOUND)
                            self->ScheduleRenew();
                        });
}

void KvLease::Commit(v1::CommitRequest request, CommitDone done) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    *request.mutable_identity() = IdentityLocked();
    request.set_reservation_id(reservation_id_);
  }
  SendCommit(request, 0, std::move(done));
}

void KvLease::SendCommit(const v1::CommitRequest& request, int failed_tries, CommitDone done) {
  if (const absl::Status failed = FailAt("prefill.commit"); !failed.ok()) {
    tasks_.Run([done = std::move(done), failed] { done(failed); });
    return;
  }
  auto call = MakeCall<v1::CommitRequest, v1::CommitResponse>(options_, target_, target_.deadline);
  call->request = request;
  stub_->async()->Commit(&call->context, &call->request, &call->response,
                         [self = shared_from_this(), call, failed_tries,
                          done = std::move(done)](const grpc::Status& status) {
                           absl::Status answer = self->Outcome(status, call->context);
                           answer.Update(FailAt("prefill.commit.answer"));
                           self->OnCommitAnswer(call->request, failed_tries, answer, done);
                         });
}

void KvLease::OnCommitAnswer(const v1::CommitRequest& request, int failed_tries,
                             const absl::Status& answer, const CommitDone& done) {
  if (answer.ok()) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    done(answer);
    return;
  }
  const int failed = failed_tries + 1;
  const absl::Time next =
      options_.clock->Now() + Backoff(options_.commit_backoff, failed, /*jitter=*/0, answer);
  if (!absl::IsUnavailable(answer) || failed == kCommitTries || next >= target_.deadline.when()) {
    done(answer);
    return;
  }
  tasks_.RunAt(next, [self = shared_from_this(), request, failed, answer, done] {
    self->has_ended() ? done(answer) : self->SendCommit(request, failed, done);
  });
}

void KvLease::Abort(const std::string& reason) {
  v1::AbortRequest request;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(ended_, true)) return;
    if (reservation_id_.empty()) return;  // OnGrant gives a late one back
    *request.mutable_identity() = IdentityLocked();
    request.set_reservation_id(reservation_id_);
  }
  if (FaultAt("prefill.abort") == Fault::kDrop) return;
  request.set_reason(reason);
  auto call = MakeCall<v1::AbortRequest, v1::AbortResponse>(
      options_, target_, Deadline::Infinite());  // the request's own deadline may have passed
  call->request = std::move(request);
  stub_->async()->Abort(&call->context, &call->request, &call->response,
                        [self = shared_from_this(), call](const grpc::Status&) {});
}

}  // namespace winnow
