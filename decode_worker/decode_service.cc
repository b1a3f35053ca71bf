#include "decode_worker/decode_service.h"

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "rpc/grpc_deadline.h"
#include "rpc/queued_writer.h"
#include "rpc/trace_metadata.h"

namespace winnow {

absl::Status DecodeService::CheckLive(const std::string& reservation_id) const {
  const absl::StatusOr<ReservationStatus> known = table_.Status(reservation_id);
  if (!known.ok()) return known.status();
  const bool over = known->state == ReservationState::kFinished ||
                    known->state == ReservationState::kAborted ||
                    known->state == ReservationState::kExpired;
  return over ? absl::NotFoundError("decode: the reservation has ended") : absl::OkStatus();
}

grpc::ServerWriteReactor<v1::DecodeResponse>* DecodeService::Decode(
    grpc::CallbackServerContext* context, const v1::DecodeRequest* request) {
  auto writer = QueuedWriter<v1::DecodeResponse>::Create(*context);
  const std::string& id = request->reservation_id();
  DecodeSubscriber subscriber;
  subscriber.token = [writer](const DecodedToken& token) {
    v1::DecodeResponse response;
    response.set_index(token.index);
    response.set_id(token.id);
    response.set_is_last(token.is_last);
    response.set_is_stop(token.is_stop);
    writer->Write(std::move(response));
  };
  const RequestTag tag{request->request_id(), TraceOf(*context).trace_id};
  subscriber.ended = [writer, tag](const absl::Status& status) {
    LogRequest(status.ok() ? spdlog::level::debug : spdlog::level::info, tag,
               absl::StrCat("decode stream ended: ", status.ToString()));
    writer->Finish(status);
  };
  const int64_t number = scheduler_.Subscribe({.reservation_id = id,
                                               .request_id = request->request_id(),
                                               .attempt = request->attempt(),
                                               .from_index = request->from_index(),
                                               .deadline = DeadlineOf(*context, clock_)},
                                              std::move(subscriber));
  writer->SetOnCancel(
      [this, id, number, writer = std::weak_ptr<QueuedWriter<v1::DecodeResponse>>(writer)] {
        scheduler_.Unsubscribe(id, number);
        if (auto w = writer.lock())
          w->Finish(absl::CancelledError("decode: the stream was cancelled"));
      });
  // Only now, or an end in between would be told to nobody. The scheduler still has tokens of some
  // that ended.
  if (const absl::Status live = CheckLive(id); !live.ok()) scheduler_.OnReservationEnded(id, live);
  return writer.get();
}

grpc::ServerUnaryReactor* DecodeService::AbortDecode(grpc::CallbackServerContext* context,
                                                     const v1::AbortDecodeRequest* request,
                                                     v1::AbortDecodeResponse*) {
  scheduler_.Abort(request->reservation_id());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* DecodeService::GetDecodeInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetDecodeInfoRequest*,
                                                       v1::GetDecodeInfoResponse* response) {
  v1::WorkerInfo* info = response->mutable_info();
  *info = options_.info;
  info->set_kv_blocks_total(kv_.total_blocks());
  info->set_kv_blocks_free(kv_.free_blocks());
  info->set_queue_depth(scheduler_.num_sequences());
  info->mutable_load()->set_requests(info->queue_depth());
  info->mutable_load()->set_tokens(scheduler_.num_tokens());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace winnow
