#include "prefill_worker/grpc_kv_handoff.h"

#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/peer_failure.h"
#include "common/status_macros.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// Connection 0 to a decode worker carries calls, the others a push stream each.
constexpr int kCalls = 0;
constexpr int kFirstStream = 1;

}  // namespace

GrpcKvHandoff::GrpcKvHandoff(const KvHandoffOptions& options, ConnectionPool& connections,
                             DeferredTasks& tasks, const HandoffTarget& target,
                             std::shared_ptr<void> alive)
    : alive_(std::move(alive)),
      options_(options),
      clock_(*options.clock),
      connections_(connections),
      tasks_(tasks),
      target_(target),
      lease_(std::make_shared<KvLease>(options, tasks, target, alive_)) {}

void GrpcKvHandoff::Reserve(const KvPlan& plan, int max_tokens,
                            std::function<void(absl::StatusOr<Grant>)> done) {
  plan_ = plan;
  const auto channel = connections_.Get(target_.decode_address, kCalls);
  if (!channel.ok()) {  // a bad address; the callback may not come from inside
    tasks_.Run([done = std::move(done), status = channel.status()] { done(status); });
    return;
  }
  lease_->Reserve(*channel, plan, max_tokens, std::move(done));
}

KvSender::Options GrpcKvHandoff::SenderOptions(const KvStaging& staging,
                                               PushTransport& transport) const {
  KvSender::Options options{.plan = plan_,
                            .streams_per_rank = options_.streams_per_rank,
                            .attempt = target_.attempt,
                            .credit_bytes_per_stream = lease_->terms().credit_bytes_per_stream,
                            .transport = &transport,
                            .clock = &clock_};
  for (const KvStaging::Rank& rank : staging.ranks) {
    options.ranks.push_back({rank.heads, rank.layout, rank.memory.data<std::byte>()});
  }
  return options;
}

KvSink* GrpcKvHandoff::Open(std::shared_ptr<KvStaging> staging) {
  auto streams = std::make_unique<PushStreams>();
  PushStreams& opening = *streams;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sender_ = std::make_unique<KvSender>(SenderOptions(*staging, *streams));
    transport_ = std::move(streams);
  }
  const absl::Status opened = OpenStreams(opening, std::move(staging));
  if (!opened.ok()) sender_->Fail(opened);
  WatchForSilence();
  return this;
}

absl::Status GrpcKvHandoff::OpenStreams(PushStreams& streams,
                                        std::shared_ptr<const KvStaging> staging) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int stream = 0; stream < sender_->num_streams(); ++stream) {
    WINNOW_ASSIGN_OR_RETURN(channels.emplace_back(),
                            connections_.Get(target_.decode_address, kFirstStream + stream));
  }
  PushStreams::Callbacks callbacks;
  callbacks.acknowledged = [self = shared_from_this()](int stream, const v1::PushResponse& ack) {
    self->sender_->OnAck(stream, ack.acknowledged_sequence(), ack.credit_bytes());
  };
  callbacks.ended = [self = shared_from_this()](const absl::Status& why) {
    absl::Status failure = why;
    SetPeerFailed(failure);
    self->sender_->Fail(failure);  // without effect after the last acknowledgement
  };
  std::lock_guard<std::mutex> lock(mutex_);  // Abort finds all of the streams, or prevents them
  if (aborted_) return absl::CancelledError("push: the request has ended");
  return streams.Open(channels,
                      {.open = lease_->MakePushOpen(),
                       .deadline = target_.deadline,
                       .trace = target_.trace,
                       .payload_owner = std::move(staging),
                       .clock = &clock_},
                      callbacks);
}

void GrpcKvHandoff::WatchForSilence() {
  const absl::Duration ttl = lease_->terms().ttl;
  tasks_.RunAt(clock_.Now() + ttl / 3, [weak = weak_from_this(), ttl] {
    const std::shared_ptr<GrpcKvHandoff> self = weak.lock();
    if (self == nullptr || self->lease_->has_ended()) return;
    if (self->sender_->silence() <= ttl) {
      self->WatchForSilence();
      return;
    }
    absl::Status silent = absl::UnavailableError(
        absl::StrCat("push: decode worker ", self->target_.decode_address,
                     " acknowledged nothing for ", absl::FormatDuration(ttl)));
    SetPeerFailed(silent);
    self->sender_->Fail(silent);
  });
}

void GrpcKvHandoff::OnKvReady(const KvReady& part, EventPtr event) {
  if (event == nullptr || event->IsDone()) {
    sender_->OnReady(part.rank, part.layer, part.slot_begin, part.slot_end);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++parts_waiting_;
  }
  const Deadline latest = Deadline::After(clock_, options_.event_timeout).Earlier(target_.deadline);
  tasks_.RunWhenDone(std::move(event), latest,
                     [self = shared_from_this(), part](const absl::Status& status) {
                       self->OnEvent(part, status);
                     });
}

void GrpcKvHandoff::OnEvent(const KvReady& part, const absl::Status& status) {
  if (status.ok()) {
    sender_->OnReady(part.rank, part.layer, part.slot_begin, part.slot_end);
  } else {
    sender_->Fail(status);
  }
  std::function<void()> finish;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--parts_waiting_ == 0) finish = std::exchange(finish_, nullptr);
  }
  if (finish) finish();
}

void GrpcKvHandoff::Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
                           CommitDone done) {
  std::function<void()> finish = [self = shared_from_this(), tokens = std::move(tokens), sampling,
                                  done = std::move(done)] {
    self->FinishSending(tokens, sampling, done);
  };
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (parts_waiting_ > 0) {
      finish_ = std::move(finish);
      return;
    }
  }
  tasks_.Run(std::move(finish));  // the callback may not come from inside
}

void GrpcKvHandoff::FinishSending(const std::vector<int32_t>& tokens,
                                  const SamplingParams& sampling, const CommitDone& done) {
  sender_->Finish([self = shared_from_this(), tokens, sampling, done](const absl::Status& sent) {
    if (!sent.ok()) {
      done(sent);
      return;
    }
    const absl::Time acknowledged = self->clock_.Now();
    self->lease_->Commit(self->MakeCommit(tokens, sampling),
                         [self, acknowledged, done](const absl::Status& committed) {
                           if (!committed.ok()) {
                             done(committed);
                             return;
                           }
                           self->transport_->Finish();
                           const KvSender& sender = *self->sender_;
                           done(Summary{.kv_payload_bytes = sender.kv_payload_bytes(),
                                        .begun = sender.begun(),
                                        .acknowledged = acknowledged,
                                        .committed = self->clock_.Now(),
                                        .credit_stall = sender.credit_stall()});
                         });
  });
}

v1::CommitRequest GrpcKvHandoff::MakeCommit(const std::vector<int32_t>& tokens,
                                            const SamplingParams& sampling) const {
  v1::CommitRequest request;
  request.set_num_prompt_tokens(plan_.num_prompt_tokens);
  request.set_next_position(plan_.next_position);
  request.mutable_tokens()->Add(tokens.begin(), tokens.end());
  *request.mutable_sampling() = ToProto(sampling);
  for (int layer = 0; layer < plan_.num_layers; ++layer) {
    request.add_entries_per_layer(plan_.entries(layer));
  }
  const std::vector<StreamSummary> summaries = sender_->summaries();
  for (size_t stream = 0; stream < summaries.size(); ++stream) {
    v1::StreamSummary* summary = request.add_streams();
    summary->set_stream(static_cast<int>(stream));
    summary->set_num_chunks(summaries[stream].num_chunks);
    summary->set_crc32c(summaries[stream].crc32c);
  }
  return request;
}

void GrpcKvHandoff::Abort(const std::string& reason) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    aborted_ = true;
    if (transport_ != nullptr && !lease_->has_ended()) transport_->Cancel();
  }
  lease_->Abort(reason);
}

}  // namespace winnow
