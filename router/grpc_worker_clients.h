#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "router/worker_clients.h"
#include "rpc/tls.h"

namespace winnow {

// WorkerClients over gRPC; one connection per worker.
class GrpcWorkerClients final : public WorkerClients {
 public:
  // `tls`: the router's certificate and the authority that it trusts; none: plain text. `clock`
  // must outlive the clients.
  explicit GrpcWorkerClients(const Clock& clock, TlsFiles tls = {})
      : clock_(clock), tls_(std::move(tls)) {}

  std::shared_ptr<StreamCall> Prefill(const std::string& address, const v1::PrefillRequest& request,
                                      const CallScope& scope,
                                      StreamCallbacks<v1::PrefillResponse> callbacks) override;
  std::shared_ptr<StreamCall> Resend(const std::string& address, const v1::ResendRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::ResendResponse> callbacks) override;
  std::shared_ptr<StreamCall> Decode(const std::string& address, const v1::DecodeRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::DecodeResponse> callbacks) override;
  void AbortDecode(const std::string& address, const std::string& reservation_id,
                   const std::string& reason) override;
  void GetInfo(const std::string& address, v1::WorkerRole role, Deadline deadline,
               std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) override;
  void Forget(const std::string& address) override;

 private:
  std::shared_ptr<grpc::Channel> Channel(const std::string& address);

  const Clock& clock_;
  const TlsFiles tls_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::shared_ptr<grpc::Channel>> forgotten_;  // kept until their last call has ended
};

}  // namespace winnow
