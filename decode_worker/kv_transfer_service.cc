#include "decode_worker/kv_transfer_service.h"

#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/fault.h"
#include "common/log.h"
#include "rpc/grpc_status.h"
#include "rpc/peer.h"
#include "rpc/trace_metadata.h"
#include "transfer/chunk_codec.h"
#include "wire/kv_plan_proto.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

TransferIdentity ParseIdentity(const v1::TransferIdentity& proto) {
  return {proto.request_id(),         proto.attempt(),       proto.source_incarnation(),
          proto.target_incarnation(), proto.layout_digest(), proto.wire_version()};
}

grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status, *context));
  return reactor;
}

// Logs how a call about a reservation ended; a cancel is expected.
void LogCall(grpc::CallbackServerContext& context, const char* call,
             const v1::TransferIdentity& identity, const absl::Status& status) {
  const bool expected = status.ok() || absl::IsCancelled(status);
  LogRequest(expected ? spdlog::level::debug : spdlog::level::info,
             {identity.request_id(), TraceOf(context).trace_id},
             absl::StrCat(call, ", attempt ", identity.attempt(), ": ", status.ToString()));
}

// One Push stream: reads a message, stores it, answers; one write in flight.
class PushReactor final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  PushReactor(DecodeCore& core, grpc::CallbackServerContext& context)
      : core_(core), context_(context) {
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {  // the sender is done, or gone; then the lease decides
      End(absl::OkStatus());
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ending_) return;  // cancelled; nothing may be started any more
    }
    const absl::Status status = opened_ ? OnChunks() : OnOpen();
    if (!status.ok()) {
      End(status);
      return;
    }
    StartRead(&message_);
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (ok && has_ack_) {
      WriteAck();
    } else if (ending_) {  // also when the write failed: without Finish the call would never end
      Finish(ToGrpcStatus(end_status_, context_));
    }
  }
  void OnCancel() override { End(absl::CancelledError("push: the stream was cancelled")); }
  void OnDone() override { delete this; }

 private:
  absl::Status OnOpen() {
    grpc::Slice slice;
    v1::PushRequest request;
    const bool parsed = message_.DumpToSingleSlice(&slice).ok() &&
                        request.ParseFromArray(slice.begin(), static_cast<int>(slice.size())) &&
                        request.has_open();
    if (!parsed) return absl::InvalidArgumentError("push: the first message must be `open`");
    opened_ = true;
    identity_ = request.open().identity();
    reservation_id_ = request.open().reservation_id();
    stream_ = request.open().stream();
    return core_.OpenStream(reservation_id_, ParseIdentity(request.open().identity()), stream_);
  }

  absl::Status OnChunks() {
    grpc::Slice slice;
    if (!message_.TrySingleSlice(&slice).ok() && !message_.DumpToSingleSlice(&slice).ok()) {
      return absl::InternalError("push: a message could not be read");
    }
    absl::Span<const std::byte> rest(reinterpret_cast<const std::byte*>(slice.begin()),
                                     slice.size());
    if (absl::Status fault = FailAt("decode.push.chunk", stream_); !fault.ok()) return fault;
    ChunkAck sum;
    while (!rest.empty()) {
      const absl::StatusOr<DecodedChunk> chunk = TakeChunk(rest);
      if (!chunk.ok()) {
        core_.Fail(reservation_id_, chunk.status());
        return chunk.status();
      }
      const absl::StatusOr<ChunkAck> ack =
          core_.OnChunk(reservation_id_, stream_, chunk->header, chunk->payload.data());
      if (!ack.ok()) return ack.status();
      sum.acknowledged_sequence = ack->acknowledged_sequence;
      sum.credit_bytes += ack->credit_bytes;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    acknowledged_ = sum.acknowledged_sequence;
    credits_ += sum.credit_bytes;
    has_ack_ = true;
    if (!writing_ && !ending_) WriteAck();
    return absl::OkStatus();
  }

  // Acknowledgements that gather while a write is in flight leave as one. The lock is held.
  void WriteAck() {
    if (FaultAt("decode.push.ack", stream_) == Fault::kDrop) return;
    v1::PushResponse response;
    core_.OnCreditsSent(reservation_id_, stream_, credits_);
    response.set_acknowledged_sequence(acknowledged_);
    response.set_credit_bytes(std::exchange(credits_, 0));
    has_ack_ = false;
    const grpc::Slice slice(response.SerializeAsString());
    out_ = grpc::ByteBuffer(&slice, 1);
    writing_ = true;
    StartWrite(&out_);
  }

  void End(absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(ending_, true)) return;
    if (!status.ok()) LogCall(context_, "push", identity_, status);
    end_status_ = std::move(status);
    if (!writing_) Finish(ToGrpcStatus(end_status_, context_));
  }

  DecodeCore& core_;
  grpc::CallbackServerContext& context_;
  grpc::ByteBuffer message_, out_;
  bool opened_ = false;
  v1::TransferIdentity identity_;
  std::string reservation_id_;
  int stream_ = 0;

  std::mutex mutex_;
  bool writing_ = false, has_ack_ = false, ending_ = false;
  uint64_t acknowledged_ = 0;
  int64_t credits_ = 0;
  absl::Status end_status_;
};

absl::StatusOr<CommitParams> ParseCommit(const v1::CommitRequest& proto) {
  CommitParams params;
  absl::StatusOr<SamplingParams> sampling = FromProto(proto.sampling());
  if (!sampling.ok()) return sampling.status();
  params.identity = ParseIdentity(proto.identity());
  params.reservation_id = proto.reservation_id();
  params.num_prompt_tokens = proto.num_prompt_tokens();
  params.next_position = proto.next_position();
  params.tokens.assign(proto.tokens().begin(), proto.tokens().end());
  params.sampling = *std::move(sampling);
  params.entries_per_layer.assign(proto.entries_per_layer().begin(),
                                  proto.entries_per_layer().end());
  for (const v1::StreamSummary& stream : proto.streams()) {
    const auto expected = static_cast<int>(params.streams.size());
    if (stream.stream() != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          "commit: streams must ascend from 0: expected ", expected, ", got ", stream.stream()));
    }
    params.streams.push_back({stream.num_chunks(), stream.crc32c()});
  }
  return params;
}

}  // namespace

grpc::ServerUnaryReactor* KvTransferService::Reserve(grpc::CallbackServerContext* context,
                                                     const v1::ReserveRequest* request,
                                                     v1::ReserveResponse* response) {
  if (const absl::Status fault = FailAt("decode.reserve"); !fault.ok())
    return Finish(context, fault);
  const absl::StatusOr<KvPlan> plan = FromProto(request->plan());
  if (!plan.ok()) return Finish(context, plan.status());
  const absl::StatusOr<ReserveGrant> grant = core_.Reserve(
      {ParseIdentity(request->identity()), *plan, request->max_tokens(), request->num_streams(),
       request->newest_wire_version(), PeerCertificateName(*context)});
  LogCall(*context, "reserve", request->identity(), grant.status());
  if (!grant.ok()) return Finish(context, grant.status());
  // The caller is gone, or its deadline passed, and it never learns the id that it would abort.
  if (context->IsCancelled()) {
    const absl::Status nobody = absl::CancelledError("reserve: nobody waits for the grant");
    (void)core_.Abort(grant->reservation_id, ParseIdentity(request->identity()),
                      std::string(nobody.message()));
    return Finish(context, nobody);
  }
  response->set_reservation_id(grant->reservation_id);
  response->set_ttl_ms(absl::ToInt64Milliseconds(grant->ttl));
  response->set_credit_bytes_per_stream(grant->credit_bytes_per_stream);
  response->set_target_incarnation(grant->target_incarnation);
  response->set_wire_version(grant->wire_version);
  return Finish(context, absl::OkStatus());
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* KvTransferService::Push(
    grpc::CallbackServerContext* context) {
  return new PushReactor(core_, *context);
}

grpc::ServerUnaryReactor* KvTransferService::Commit(grpc::CallbackServerContext* context,
                                                    const v1::CommitRequest* request,
                                                    v1::CommitResponse* response) {
  if (const absl::Status fault = FailAt("decode.commit"); !fault.ok())
    return Finish(context, fault);
  const absl::StatusOr<CommitParams> parsed = ParseCommit(*request);
  if (!parsed.ok()) return Finish(context, parsed.status());
  const absl::StatusOr<int64_t> bytes = core_.Commit(*parsed);
  LogCall(*context, "commit", request->identity(), bytes.status());
  if (const absl::Status fault = FailAt("decode.commit.answer"); !fault.ok()) {
    return Finish(context, fault);
  }
  if (bytes.ok()) response->set_kv_payload_bytes(*bytes);
  return Finish(context, bytes.status());
}

grpc::ServerUnaryReactor* KvTransferService::Renew(grpc::CallbackServerContext* context,
                                                   const v1::RenewRequest* request,
                                                   v1::RenewResponse* response) {
  const absl::StatusOr<absl::Duration> ttl =
      core_.Renew(request->reservation_id(), ParseIdentity(request->identity()));
  if (ttl.ok()) response->set_ttl_ms(absl::ToInt64Milliseconds(*ttl));
  return Finish(context, ttl.status());
}

grpc::ServerUnaryReactor* KvTransferService::Abort(grpc::CallbackServerContext* context,
                                                   const v1::AbortRequest* request,
                                                   v1::AbortResponse*) {
  return Finish(context, core_.Abort(request->reservation_id(), ParseIdentity(request->identity()),
                                     request->reason()));
}

}  // namespace winnow
