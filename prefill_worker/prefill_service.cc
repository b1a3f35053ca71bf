#include "prefill_worker/prefill_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "rpc/grpc_deadline.h"
#include "rpc/queued_writer.h"
#include "rpc/trace_metadata.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

// What Prefill and Resend say alike.
template <typename Request>
HandoffTarget TargetOf(const grpc::CallbackServerContext& context, const Request& request,
                       const Clock& clock) {
  return {.request_id = request.request_id(),
          .attempt = request.attempt(),
          .decode_address = request.decode_address(),
          .decode_incarnation = request.decode_incarnation(),
          .deadline = DeadlineOf(context, clock),
          .trace = TraceOf(context).Child()};
}

void FillReserved(const std::string& decode_address, const std::string& reservation_id,
                  v1::Reserved* out) {
  out->set_decode_address(decode_address);
  out->set_reservation_id(reservation_id);
}

void FillLoad(const PrefillLoad& load, v1::WorkerLoad* out) {
  out->set_requests(load.jobs);
  out->set_tokens(load.tokens);
  out->set_seconds(absl::ToDoubleSeconds(load.time));
}

void FillCommitted(const PrefillSummary& summary, const PrefillLoad& load, v1::Committed* out) {
  FillLoad(load, out->mutable_load());
  *out->mutable_ledger() = ToProto(summary.ledger);
  *out->mutable_stages() = ToProto(summary.stages);
  EncodePositionDeltas(summary.kept_positions, out->mutable_kept_position_deltas());
  out->set_decode_follows(summary.decode_follows);
}

// The events that Prefill and Resend share.
template <typename Response>
PrefillCallbacks StreamTo(const std::shared_ptr<QueuedWriter<Response>>& writer,
                          const PrefillScheduler& scheduler, const RequestTag& tag) {
  PrefillCallbacks callbacks;
  callbacks.reserved = [writer](const std::string& decode_address,
                                const std::string& reservation_id) {
    Response event;
    FillReserved(decode_address, reservation_id, event.mutable_reserved());
    writer->Write(std::move(event));
  };
  callbacks.token = [](int32_t, bool) {};
  callbacks.committed = [writer, &scheduler, tag](const PrefillSummary& summary) {
    LogRequest(spdlog::level::debug, tag,
               absl::StrCat("done: kept ", summary.ledger.kept_tokens, " of ",
                            summary.ledger.prompt_tokens, " tokens, sent ",
                            summary.kv_payload_bytes_sent, " bytes"));
    Response event;
    FillCommitted(summary, scheduler.load(), event.mutable_committed());
    writer->Write(std::move(event));
    writer->Finish(absl::OkStatus());
  };
  callbacks.failed = [writer, tag](const absl::Status& status) {
    LogRequest(spdlog::level::info, tag, absl::StrCat("failed: ", status.ToString()));
    writer->Finish(status);
  };
  return callbacks;
}

}  // namespace

absl::StatusOr<PrefillJob> PrefillService::ParseJob(grpc::CallbackServerContext& context,
                                                    const v1::PrefillRequest& request) const {
  if (request.explain() && !options_.allow_explain) {
    return absl::PermissionDeniedError("prefill: explain is off on this worker (--allow-explain)");
  }
  PrefillJob job;
  WINNOW_ASSIGN_OR_RETURN(job.selection, FromProto(request.selection(), options_.shape));
  WINNOW_ASSIGN_OR_RETURN(job.sampling, FromProto(request.sampling()));
  for (int32_t id : request.prompt_ids()) {
    if (id < 0 || id >= options_.shape.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("prefill: token id must be in [0, ",
                                                     options_.shape.vocab_size, "), got ", id));
    }
  }
  job.target = TargetOf(context, request, clock_);
  job.prompt_ids.assign(request.prompt_ids().begin(), request.prompt_ids().end());
  job.forced_tokens.assign(request.forced_tokens().begin(), request.forced_tokens().end());
  job.explain = request.explain();
  job.priority = request.priority();
  return job;
}

grpc::ServerWriteReactor<v1::PrefillResponse>* PrefillService::Prefill(
    grpc::CallbackServerContext* context, const v1::PrefillRequest* request) {
  auto writer = QueuedWriter<v1::PrefillResponse>::Create(*context);
  absl::StatusOr<PrefillJob> job = ParseJob(*context, *request);
  if (!job.ok()) {
    writer->Finish(job.status());
    return writer.get();
  }
  PrefillCallbacks callbacks =
      StreamTo(writer, scheduler_, {job->target.request_id, job->target.trace.trace_id});
  callbacks.token = [writer](int32_t token, bool is_stop) {
    v1::PrefillResponse event;
    event.mutable_token()->set_index(0);
    event.mutable_token()->set_id(token);
    event.mutable_token()->set_is_stop(is_stop);
    writer->Write(std::move(event));
  };
  callbacks.accepted = [this, writer](const PrefillLoad& load) {
    v1::PrefillResponse event;
    event.mutable_accepted()->set_queue_depth(load.jobs - 1);
    FillLoad(load, event.mutable_accepted()->mutable_load());
    event.mutable_accepted()->set_incarnation(options_.info.incarnation());
    event.mutable_accepted()->set_tensor_parallel(options_.info.tensor_parallel());
    writer->Write(std::move(event));
  };
  const std::shared_ptr<StopFlag> stop = job->stop;
  if (const absl::Status taken = scheduler_.Submit(*std::move(job), std::move(callbacks));
      !taken.ok()) {
    v1::PrefillResponse event;
    FillLoad(scheduler_.load(), event.mutable_refused()->mutable_load());
    writer->Write(std::move(event));
    writer->Finish(taken);
    return writer.get();
  }
  writer->SetOnCancel([this, stop] {
    stop->Stop(absl::StatusCode::kCancelled);
    scheduler_.Wake();
  });
  return writer.get();
}

grpc::ServerWriteReactor<v1::ResendResponse>* PrefillService::Resend(
    grpc::CallbackServerContext* context, const v1::ResendRequest* request) {
  auto writer = QueuedWriter<v1::ResendResponse>::Create(*context);
  auto stop = std::make_shared<StopFlag>();
  HandoffTarget target = TargetOf(*context, *request, clock_);
  PrefillCallbacks callbacks =
      StreamTo(writer, scheduler_, {target.request_id, target.trace.trace_id});
  const absl::Status status = scheduler_.Resend(std::move(target), stop, std::move(callbacks));
  if (!status.ok()) {
    writer->Finish(status);
    return writer.get();
  }
  writer->SetOnCancel([this, stop] {
    stop->Stop(absl::StatusCode::kCancelled);
    scheduler_.Wake();
  });
  return writer.get();
}

grpc::ServerUnaryReactor* PrefillService::GetInfo(grpc::CallbackServerContext* context,
                                                  const v1::GetInfoRequest*,
                                                  v1::GetInfoResponse* response) {
  *response->mutable_info() = options_.info;
  const PrefillLoad load = scheduler_.load();
  response->mutable_info()->set_queue_depth(load.jobs);
  FillLoad(load, response->mutable_info()->mutable_load());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace winnow
