#include "decode_worker/decode_service.h"

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "rpc/grpc_deadline.h"
#include "rpc/queued_writer.h"
#include "rpc/trace_metadata.h"

namespace winnow {

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
  const int64_t number = core_.Subscribe({.reservation_id = id,
                                          .request_id = request->request_id(),
                                          .attempt = request->attempt(),
                                          .from_index = request->from_index(),
                                          .deadline = DeadlineOf(*context, clock_)},
                                         std::move(subscriber));
  writer->SetOnCancel(
      [this, id, number, writer = std::weak_ptr<QueuedWriter<v1::DecodeResponse>>(writer)] {
        core_.Unsubscribe(id, number);
        if (auto w = writer.lock())
          w->Finish(absl::CancelledError("decode: the stream was cancelled"));
      });
  return writer.get();
}

grpc::ServerUnaryReactor* DecodeService::AbortDecode(grpc::CallbackServerContext* context,
                                                     const v1::AbortDecodeRequest* request,
                                                     v1::AbortDecodeResponse*) {
  core_.Cancel(request->reservation_id());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* DecodeService::GetDecodeInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetDecodeInfoRequest*,
                                                       v1::GetDecodeInfoResponse* response) {
  v1::WorkerInfo* info = response->mutable_info();
  *info = info_;
  const DecodeLoad load = core_.load();
  info->set_kv_blocks_total(load.kv_blocks.total);
  info->set_kv_blocks_free(load.kv_blocks.free);
  info->set_queue_depth(load.sequences);
  info->mutable_load()->set_requests(load.sequences);
  info->mutable_load()->set_tokens(load.tokens);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace winnow
