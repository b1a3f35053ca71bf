#pragma once

#include <utility>

#include "decode_worker/decode_core.h"
#include "winnow/v1/decode.grpc.pb.h"

namespace winnow {

// The gRPC shell of a decode worker's generations: the router's calls.
class DecodeService final : public v1::DecodeService::CallbackService {
 public:
  // `info` is all but the load. `core` and `clock` must outlive the service.
  DecodeService(DecodeCore& core, const Clock& clock, v1::WorkerInfo info)
      : core_(core), clock_(clock), info_(std::move(info)) {}

  grpc::ServerWriteReactor<v1::DecodeResponse>* Decode(grpc::CallbackServerContext* context,
                                                       const v1::DecodeRequest* request) override;
  grpc::ServerUnaryReactor* AbortDecode(grpc::CallbackServerContext* context,
                                        const v1::AbortDecodeRequest* request,
                                        v1::AbortDecodeResponse* response) override;
  grpc::ServerUnaryReactor* GetDecodeInfo(grpc::CallbackServerContext* context,
                                          const v1::GetDecodeInfoRequest* request,
                                          v1::GetDecodeInfoResponse* response) override;

 private:
  DecodeCore& core_;
  const Clock& clock_;
  const v1::WorkerInfo info_;
};

}  // namespace winnow
