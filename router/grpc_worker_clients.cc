#include "router/grpc_worker_clients.h"

#include <grpcpp/alarm.h>

#include <utility>

#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "winnow/v1/decode.grpc.pb.h"
#include "winnow/v1/prefill.grpc.pb.h"

namespace winnow {
namespace {

// A server stream; deletes its own hold on itself when it has ended.
template <typename Request, typename Response>
class ServerStream final : public StreamCall, public grpc::ClientReadReactor<Response> {
 public:
  template <typename StartFn>
  static std::shared_ptr<StreamCall> Start(const Request& request, Deadline deadline, const Clock& clock,
                                           StreamCallbacks<Response> callbacks, StartFn start) {
    auto stream = std::shared_ptr<ServerStream>(new ServerStream(request, std::move(callbacks)));
    stream->self_ = stream;
    SetDeadline(stream->context_, deadline, clock);
    start(&stream->context_, &stream->request_, stream.get());
    stream->StartRead(&stream->response_);
    stream->StartCall();
    return stream;
  }

  void Cancel() override { context_.TryCancel(); }
  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    callbacks_.message(response_);
    this->StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    callbacks_.ended(FromGrpcStatus(status, context_));
    callbacks_ = {};
    auto last = std::move(self_);
  }

 private:
  ServerStream(const Request& request, StreamCallbacks<Response> callbacks)
      : request_(request), callbacks_(std::move(callbacks)) {}

  const Request request_;
  StreamCallbacks<Response> callbacks_;
  grpc::ClientContext context_;
  Response response_;
  std::shared_ptr<ServerStream> self_;
};

}  // namespace

std::shared_ptr<grpc::Channel> GrpcWorkerClients::Channel(const std::string& address) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    absl::StatusOr<std::shared_ptr<grpc::Channel>> made = MakeChannel(address);
    // Addresses were checked at start; a lame channel answers UNAVAILABLE.
    channel = made.ok() ? *made : grpc::CreateChannel("invalid:", grpc::InsecureChannelCredentials());
  }
  return channel;
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Prefill(const std::string& address, const v1::PrefillRequest& request,
                                                       Deadline deadline,
                                                       StreamCallbacks<v1::PrefillResponse> callbacks) {
  const std::shared_ptr<v1::PrefillService::Stub> stub = v1::PrefillService::NewStub(Channel(address));
  return ServerStream<v1::PrefillRequest, v1::PrefillResponse>::Start(
      request, deadline, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) { stub->async()->Prefill(context, req, reactor); });
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Resend(const std::string& address, const v1::ResendRequest& request,
                                                      Deadline deadline,
                                                      StreamCallbacks<v1::ResendResponse> callbacks) {
  const std::shared_ptr<v1::PrefillService::Stub> stub = v1::PrefillService::NewStub(Channel(address));
  return ServerStream<v1::ResendRequest, v1::ResendResponse>::Start(
      request, deadline, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) { stub->async()->Resend(context, req, reactor); });
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Decode(const std::string& address, const v1::DecodeRequest& request,
                                                      Deadline deadline,
                                                      StreamCallbacks<v1::DecodeResponse> callbacks) {
  const std::shared_ptr<v1::DecodeService::Stub> stub = v1::DecodeService::NewStub(Channel(address));
  return ServerStream<v1::DecodeRequest, v1::DecodeResponse>::Start(
      request, deadline, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) { stub->async()->Decode(context, req, reactor); });
}

void GrpcWorkerClients::AbortDecode(const std::string& address, const std::string& reservation_id,
                                    const std::string& reason) {
  struct Call {
    grpc::ClientContext context;
    v1::AbortDecodeRequest request;
    v1::AbortDecodeResponse response;
  };
  auto call = std::make_shared<Call>();
  call->request.set_reservation_id(reservation_id);
  call->request.set_reason(reason);
  SetDeadline(call->context, Deadline::After(clock_, absl::Seconds(5)), clock_);
  const std::unique_ptr<v1::DecodeService::Stub> stub = v1::DecodeService::NewStub(Channel(address));
  stub->async()->AbortDecode(&call->context, &call->request, &call->response, [call](const grpc::Status&) {});
}

absl::StatusOr<v1::WorkerInfo> GrpcWorkerClients::GetPrefillInfo(const std::string& address, Deadline deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline, clock_);
  v1::GetInfoResponse response;
  const grpc::Status status = v1::PrefillService::NewStub(Channel(address))->GetInfo(&context, {}, &response);
  if (!status.ok()) return FromGrpcStatus(status, context);
  return response.info();
}

absl::StatusOr<v1::WorkerInfo> GrpcWorkerClients::GetDecodeInfo(const std::string& address, Deadline deadline) {
  grpc::ClientContext context;
  SetDeadline(context, deadline, clock_);
  v1::GetDecodeInfoResponse response;
  const grpc::Status status = v1::DecodeService::NewStub(Channel(address))->GetDecodeInfo(&context, {}, &response);
  if (!status.ok()) return FromGrpcStatus(status, context);
  return response.info();
}

void GrpcWorkerClients::After(absl::Duration delay, std::function<void()> fn) {
  auto alarm = std::make_shared<grpc::Alarm>();
  grpc::Alarm* raw = alarm.get();
  raw->Set(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(delay),
           [alarm, fn = std::move(fn)](bool) { fn(); });
}

}  // namespace winnow
