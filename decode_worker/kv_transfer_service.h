#pragma once

#include "decode_worker/decode_core.h"
#include "winnow/v1/kv_transfer.grpc.pb.h"

namespace winnow {

namespace internal {
// Push is raw, so that payloads are not copied through protobuf; the other calls are ordinary.
using KvTransferBase = v1::KvTransferService::WithCallbackMethod_Reserve<
    v1::KvTransferService::WithRawCallbackMethod_Push<
        v1::KvTransferService::WithCallbackMethod_Commit<
            v1::KvTransferService::WithCallbackMethod_Renew<
                v1::KvTransferService::WithCallbackMethod_Abort<v1::KvTransferService::Service>>>>>;
}  // namespace internal

// The gRPC shell of a decode worker's handoffs: the prefill workers' calls. `core` must outlive it.
class KvTransferService final : public internal::KvTransferBase {
 public:
  explicit KvTransferService(DecodeCore& core) : core_(core) {}

  grpc::ServerUnaryReactor* Reserve(grpc::CallbackServerContext* context,
                                    const v1::ReserveRequest* request,
                                    v1::ReserveResponse* response) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Push(
      grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Commit(grpc::CallbackServerContext* context,
                                   const v1::CommitRequest* request,
                                   v1::CommitResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context,
                                  const v1::RenewRequest* request,
                                  v1::RenewResponse* response) override;
  grpc::ServerUnaryReactor* Abort(grpc::CallbackServerContext* context,
                                  const v1::AbortRequest* request,
                                  v1::AbortResponse* response) override;

 private:
  DecodeCore& core_;
};

}  // namespace winnow
