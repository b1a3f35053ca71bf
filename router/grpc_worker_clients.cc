#include "router/grpc_worker_clients.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/fault.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/trace_metadata.h"
#include "rpc/unary_call.h"
#include "winnow/v1/decode.grpc.pb.h"
#include "winnow/v1/prefill.grpc.pb.h"

namespace winnow {
namespace {

constexpr absl::Duration kAbortTimeout = absl::Seconds(5);

// A server stream. Owns itself until it has ended.
template <typename Request, typename Response>
class ServerStream final : public StreamCall, public grpc::ClientReadReactor<Response> {
 public:
  template <typename StartFn>
  static std::shared_ptr<StreamCall> Start(const Request& request, const CallScope& scope,
                                           const Clock& clock, StreamCallbacks<Response> callbacks,
                                           StartFn start) {
    auto stream = std::shared_ptr<ServerStream>(new ServerStream(request, std::move(callbacks)));
    stream->self_ = stream;
    SetDeadline(stream->context_, scope.deadline, clock);
    SendTrace(stream->context_, scope.trace);
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

template <typename Call>
std::function<void(grpc::Status)> TellInfo(
    std::shared_ptr<Call> call, std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) {
  return [call = std::move(call), done = std::move(done)](const grpc::Status& status) {
    if (status.ok()) {
      done(call->response.info());
    } else {
      done(FromGrpcStatus(status, call->context));
    }
  };
}

}  // namespace

std::shared_ptr<grpc::Channel> GrpcWorkerClients::Channel(const std::string& address) {
  std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    absl::StatusOr<std::shared_ptr<grpc::Channel>> made = MakeChannel(address, {.tls = tls_});
    // Addresses were checked before; should one be bad, its calls fail with UNAVAILABLE.
    channel =
        made.ok() ? *made : grpc::CreateChannel("invalid:", grpc::InsecureChannelCredentials());
  }
  return channel;
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Prefill(
    const std::string& address, const v1::PrefillRequest& request, const CallScope& scope,
    StreamCallbacks<v1::PrefillResponse> callbacks) {
  FaultAt("router.prefill");
  const std::shared_ptr<v1::PrefillService::Stub> stub =
      v1::PrefillService::NewStub(Channel(address));
  return ServerStream<v1::PrefillRequest, v1::PrefillResponse>::Start(
      request, scope, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) {
        stub->async()->Prefill(context, req, reactor);
      });
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Resend(
    const std::string& address, const v1::ResendRequest& request, const CallScope& scope,
    StreamCallbacks<v1::ResendResponse> callbacks) {
  const std::shared_ptr<v1::PrefillService::Stub> stub =
      v1::PrefillService::NewStub(Channel(address));
  return ServerStream<v1::ResendRequest, v1::ResendResponse>::Start(
      request, scope, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) {
        stub->async()->Resend(context, req, reactor);
      });
}

std::shared_ptr<StreamCall> GrpcWorkerClients::Decode(
    const std::string& address, const v1::DecodeRequest& request, const CallScope& scope,
    StreamCallbacks<v1::DecodeResponse> callbacks) {
  FaultAt("router.decode");
  const std::shared_ptr<v1::DecodeService::Stub> stub =
      v1::DecodeService::NewStub(Channel(address));
  return ServerStream<v1::DecodeRequest, v1::DecodeResponse>::Start(
      request, scope, clock_, std::move(callbacks),
      [&](auto* context, const auto* req, auto* reactor) {
        stub->async()->Decode(context, req, reactor);
      });
}

void GrpcWorkerClients::AbortDecode(const std::string& address, const std::string& reservation_id,
                                    const std::string& reason) {
  if (FaultAt("router.abort") == Fault::kDrop) return;
  auto call = MakeUnaryCall<v1::AbortDecodeRequest, v1::AbortDecodeResponse>(
      Deadline::After(clock_, kAbortTimeout), clock_);
  call->request.set_reservation_id(reservation_id);
  call->request.set_reason(reason);
  const std::unique_ptr<v1::DecodeService::Stub> stub =
      v1::DecodeService::NewStub(Channel(address));
  stub->async()->AbortDecode(&call->context, &call->request, &call->response,
                             [call](const grpc::Status&) {});
}

void GrpcWorkerClients::GetInfo(const std::string& address, v1::WorkerRole role, Deadline deadline,
                                std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) {
  if (role == v1::WORKER_ROLE_PREFILL) {
    auto call = MakeUnaryCall<v1::GetInfoRequest, v1::GetInfoResponse>(deadline, clock_);
    v1::PrefillService::NewStub(Channel(address))
        ->async()
        ->GetInfo(&call->context, &call->request, &call->response, TellInfo(call, std::move(done)));
  } else {
    auto call =
        MakeUnaryCall<v1::GetDecodeInfoRequest, v1::GetDecodeInfoResponse>(deadline, clock_);
    v1::DecodeService::NewStub(Channel(address))
        ->async()
        ->GetDecodeInfo(&call->context, &call->request, &call->response,
                        TellInfo(call, std::move(done)));
  }
}

// A call keeps its channel alive. A channel destroyed by its last call, inside a callback of gRPC,
// would join the thread that it runs on; so channels in use are kept for a later call of Forget.
void GrpcWorkerClients::Forget(const std::string& address) {
  std::vector<std::shared_ptr<grpc::Channel>> unused;  // destroyed without the lock
  std::lock_guard<std::mutex> lock(mutex_);
  if (const auto channel = channels_.extract(address)) forgotten_.push_back(channel.mapped());
  const auto first_unused =
      std::partition(forgotten_.begin(), forgotten_.end(),
                     [](const auto& channel) { return channel.use_count() > 1; });
  unused.assign(std::make_move_iterator(first_unused), std::make_move_iterator(forgotten_.end()));
  forgotten_.erase(first_unused, forgotten_.end());
}

}  // namespace winnow
