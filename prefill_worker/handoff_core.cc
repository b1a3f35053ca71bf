#include "prefill_worker/handoff_core.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fault.h"
#include "common/peer_failure.h"
#include "prefill_worker/grpc_kv_handoff.h"
#include "rpc/grpc_status.h"
#include "rpc/trace_metadata.h"
#include "rpc/unary_call.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// How long a grant is waited for after the request has ended.
constexpr absl::Duration kLateGrant = absl::Seconds(1);

constexpr int kCommitTries = 3;  // Commit is idempotent

// Within its own time, and until `latest`.
template <typename Request, typename Response>
std::shared_ptr<UnaryCall<Request, Response>> MakeCall(const GrpcKvHandoffs::Options& options,
                                                       const HandoffTarget& target,
                                                       Deadline latest) {
  const Clock& clock = *options.clock;
  auto call = MakeUnaryCall<Request, Response>(
      Deadline::After(clock, options.call_timeout).Earlier(latest), clock);
  SendTrace(call->context, target.trace);
  return call;
}

}  // namespace

v1::TransferIdentity HandoffCore::Identity() const {
  v1::TransferIdentity identity;
  identity.set_request_id(target_.request_id);
  identity.set_attempt(target_.attempt);
  identity.set_source_incarnation(owner_.options().incarnation);
  identity.set_target_incarnation(target_incarnation_ != 0 ? target_incarnation_
                                                           : target_.decode_incarnation);
  identity.set_layout_digest(owner_.options().layout_digest);
  identity.set_wire_version(wire_version_);
  return identity;
}

// The failure of a call, which is the decode worker's. A call that took too long while the request
// still has time: this decode worker may be gone, another one may do.
absl::Status HandoffCore::Outcome(const grpc::Status& status,
                                  const grpc::ClientContext& context) const {
  absl::Status result = FromGrpcStatus(status, context);
  if (absl::IsDeadlineExceeded(result) && !target_.deadline.HasPassed(*owner_.options().clock)) {
    result = absl::UnavailableError(
        absl::StrCat("decode worker ", target_.decode_address, ": no answer within ",
                     absl::FormatDuration(owner_.options().call_timeout)));
  }
  SetPeerFailed(result);
  return result;
}

void HandoffCore::Reserve(const KvPlan& plan, int max_tokens,
                          std::function<void(absl::StatusOr<KvHandoff::Grant>)> done) {
  plan_ = plan;
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
      owner_.Channel(target_.decode_address, 0);
  if (!channel.ok()) {  // a bad address; the callback may not come from inside
    owner_.event_waiter().Add(
        [done = std::move(done), status = channel.status()] { done(status); });
    return;
  }
  stub_ = v1::KvTransferService::NewStub(*channel);
  // A little longer than the request's own deadline: an id that comes late is known, and aborted.
  auto call = MakeCall<v1::ReserveRequest, v1::ReserveResponse>(
      owner_.options(), target_, Deadline::At(target_.deadline.when() + kLateGrant));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    *call->request.mutable_identity() = Identity();
  }
  *call->request.mutable_plan() = ToProto(plan);
  call->request.set_max_tokens(max_tokens);
  const int sending = std::min(owner_.options().tensor_parallel, plan.num_kv_heads);
  call->request.set_num_streams(sending * owner_.options().streams_per_rank);
  call->request.set_newest_wire_version(owner_.options().newest_wire_version);
  call->request.set_source_tensor_parallel(owner_.options().tensor_parallel);
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

void HandoffCore::OnGrant(const v1::ReserveResponse& response) {
  bool ended;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    reservation_id_ = response.reservation_id();
    target_incarnation_ = response.target_incarnation();
    credit_bytes_ = response.credit_bytes_per_stream();
    wire_version_ = response.wire_version();
    ttl_ = absl::Milliseconds(response.ttl_ms());
    ended = std::exchange(ended_, false);
  }
  if (ended) {  // aborted while the call was under way
    Abort("the request ended before its reservation came");
  } else {
    ScheduleRenew();
  }
}

void HandoffCore::ScheduleRenew() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ended_) return;
  renew_.Set(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(ttl_ / 3),
             [weak = weak_from_this()](
                 bool due) {  // weak: the alarm keeps its function until it is destroyed
               const std::shared_ptr<HandoffCore> self = weak.lock();
               if (due && self != nullptr) self->SendRenew();
             });
}

void HandoffCore::SendRenew() {
  auto call =
      MakeCall<v1::RenewRequest, v1::RenewResponse>(owner_.options(), target_, target_.deadline);
  KvSender* sender;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ended_) return;
    *call->request.mutable_identity() = Identity();
    call->request.set_reservation_id(reservation_id_);
    sender = sender_.get();
  }
  if (sender != nullptr && sender->silence() > ttl_) {
    absl::Status silent = absl::UnavailableError(
        absl::StrCat("push: decode worker ", target_.decode_address, " acknowledged nothing for ",
                     absl::FormatDuration(ttl_)));
    SetPeerFailed(silent);
    sender->Fail(silent);
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

void HandoffCore::Open(std::shared_ptr<KvStaging> staging) {
  KvSender::Options options{.plan = plan_,
                            .streams_per_rank = owner_.options().streams_per_rank,
                            .attempt = target_.attempt,
                            .credit_bytes_per_stream = credit_bytes_,
                            .transport = this,
                            .clock = owner_.options().clock};
  for (const KvStaging::Rank& rank : staging->ranks) {
    options.ranks.push_back({rank.heads, rank.layout, rank.memory.data<std::byte>()});
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    staging_ = staging;
    sender_ = std::make_unique<KvSender>(std::move(options));
  }
  const int num_streams = sender_->num_streams();
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int stream = 0; stream < num_streams; ++stream) {
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
        owner_.Channel(target_.decode_address, 1 + stream);
    if (!channel.ok()) {
      sender_->Fail(channel.status());
      break;
    }
    channels.push_back(*std::move(channel));
  }
  std::unique_lock<std::mutex> lock(mutex_);
  for (int stream = 0; stream < num_streams; ++stream) {
    streams_.push_back(std::make_unique<StreamSlot>());
  }
  if (ended_ || static_cast<int>(channels.size()) < num_streams) {
    lock.unlock();
    sender_->Fail(
        absl::CancelledError("push: the request has ended"));  // unless it has failed already
    return;
  }
  for (int stream = 0; stream < num_streams; ++stream) {
    if (const absl::Status failed = FailAt("prefill.push.open", stream); !failed.ok()) {
      lock.unlock();
      sender_->Fail(failed);
      return;
    }
    StartStream(stream, channels[stream]);
  }
}

void HandoffCore::StartStream(int stream, const std::shared_ptr<grpc::Channel>& channel) {
  v1::PushOpen open;
  *open.mutable_identity() = Identity();
  open.set_reservation_id(reservation_id_);
  open.set_stream(stream);
  PushStream::Callbacks callbacks;
  callbacks.acknowledged = [self = shared_from_this(), stream](const v1::PushResponse& ack) {
    if (FaultAt("prefill.push.ack", stream) == Fault::kDrop) return;
    self->sender_->OnAck(stream, ack.acknowledged_sequence(), ack.credit_bytes());
  };
  callbacks.ended = [self = shared_from_this(), stream](const absl::Status& status) {
    self->OnStreamEnded(stream, status);
  };
  std::lock_guard<std::mutex> lock(streams_[stream]->mutex);  // OnStreamEnded waits for it
  streams_[stream]->stream =
      PushStream::Start(channel, open, target_.deadline, *owner_.options().clock, target_.trace,
                        /*gathers=*/wire_version_ >= 2, staging_, std::move(callbacks));
}

void HandoffCore::OnStreamEnded(int stream, const absl::Status& status) {
  {
    StreamSlot& slot = *streams_[stream];
    std::lock_guard<std::mutex> lock(slot.mutex);
    slot.stream = nullptr;
  }
  // A stream that ends well has nothing left to acknowledge; otherwise this is the news.
  absl::Status news =
      status.ok() ? absl::UnavailableError("push: the decode worker ended the stream") : status;
  SetPeerFailed(news);
  sender_->Fail(news);
}

void HandoffCore::Send(int stream, const KvChunk& chunk) {
  StreamSlot& slot = *streams_[stream];
  std::lock_guard<std::mutex> lock(slot.mutex);
  if (slot.stream != nullptr) slot.stream->Send(chunk);
}

void HandoffCore::ForEachStream(void (PushStream::*action)()) {
  for (const std::unique_ptr<StreamSlot>& slot : streams_) {
    std::lock_guard<std::mutex> lock(slot->mutex);
    if (slot->stream != nullptr) (slot->stream->*action)();
  }
}

void HandoffCore::OnKvReady(const KvReady& part, EventPtr event) {
  if (event == nullptr || event->IsDone()) {
    sender_->OnReady(part.rank, part.layer, part.slot_begin, part.slot_end);
    return;
  }
  owner_.event_waiter().Add([self = shared_from_this(), part, event] {
    const absl::Status status = event->Wait(*self->owner_.options().clock, self->target_.deadline);
    if (status.ok()) {
      self->sender_->OnReady(part.rank, part.layer, part.slot_begin, part.slot_end);
    } else {
      self->sender_->Fail(status);
    }
  });
}

v1::CommitRequest HandoffCore::MakeCommit(const std::vector<int32_t>& tokens,
                                          const SamplingParams& sampling) const {
  v1::CommitRequest request;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    *request.mutable_identity() = Identity();
    request.set_reservation_id(reservation_id_);
  }
  request.set_num_prompt_tokens(plan_.num_prompt_tokens);
  request.set_next_position(plan_.num_prompt_tokens);
  request.mutable_tokens()->Add(tokens.begin(), tokens.end());
  *request.mutable_sampling() = ToProto(sampling);
  for (int layer = 0; layer < plan_.num_layers; ++layer)
    request.add_entries_per_layer(plan_.entries(layer));
  const std::vector<StreamSummary> summaries = sender_->summaries();
  for (size_t stream = 0; stream < summaries.size(); ++stream) {
    v1::StreamSummary* summary = request.add_streams();
    summary->set_stream(static_cast<int>(stream));
    summary->set_num_chunks(summaries[stream].num_chunks);
    summary->set_crc32c(summaries[stream].crc32c);
  }
  return request;
}

void HandoffCore::Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
                         std::function<void(absl::StatusOr<KvHandoff::Summary>)> done) {
  // After parts that wait for their events.
  owner_.event_waiter().Add(
      [self = shared_from_this(), tokens = std::move(tokens), sampling, done = std::move(done)] {
        self->sender_->Finish([self, tokens, sampling, done](const absl::Status& status) {
          if (!status.ok()) {
            done(status);
            return;
          }
          self->acknowledged_ = self->owner_.options().clock->Now();
          self->SendCommit(self->MakeCommit(tokens, sampling), kCommitTries, done);
        });
      });
}

void HandoffCore::SendCommit(v1::CommitRequest request, int tries_left,
                             std::function<void(absl::StatusOr<KvHandoff::Summary>)> done) {
  auto call =
      MakeCall<v1::CommitRequest, v1::CommitResponse>(owner_.options(), target_, target_.deadline);
  call->request = std::move(request);
  if (const absl::Status failed = FailAt("prefill.commit"); !failed.ok()) {
    owner_.event_waiter().Add([done = std::move(done), failed] { done(failed); });
    return;
  }
  stub_->async()->Commit(&call->context, &call->request, &call->response,
                         [self = shared_from_this(), call, tries_left,
                          done = std::move(done)](const grpc::Status& status) {
                           absl::Status result = self->Outcome(status, call->context);
                           result.Update(FailAt("prefill.commit.answer"));
                           if (absl::IsUnavailable(result) && tries_left > 1) {
                             self->SendCommit(call->request, tries_left - 1, done);
                             return;
                           }
                           if (!result.ok()) {
                             done(result);
                             return;
                           }
                           {
                             std::lock_guard<std::mutex> lock(self->mutex_);
                             self->ended_ = true;
                             self->renew_.Cancel();
                             self->ForEachStream(&PushStream::FinishWrites);
                           }
                           done(self->Summarize());
                         });
}

KvHandoff::Summary HandoffCore::Summarize() const {
  return {.kv_payload_bytes = sender_->kv_payload_bytes(),
          .begun = sender_->begun(),
          .acknowledged = acknowledged_,
          .committed = owner_.options().clock->Now(),
          .credit_stall = sender_->credit_stall()};
}

void HandoffCore::Abort(const std::string& reason) {
  v1::AbortRequest request;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(ended_, true)) return;
    renew_.Cancel();
    ForEachStream(&PushStream::Cancel);
    if (reservation_id_.empty()) return;  // none yet; OnGrant sees ended_
    *request.mutable_identity() = Identity();
    request.set_reservation_id(reservation_id_);
  }
  if (FaultAt("prefill.abort") == Fault::kDrop) return;
  request.set_reason(reason);
  auto call = MakeCall<v1::AbortRequest, v1::AbortResponse>(
      owner_.options(), target_, Deadline::Infinite());  // the request's own may have passed
  call->request = std::move(request);
  stub_->async()->Abort(&call->context, &call->request, &call->response,
                        [self = shared_from_this(), call](const grpc::Status&) {});
}

}  // namespace winnow
