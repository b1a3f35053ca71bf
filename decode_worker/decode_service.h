#pragma once

#include <atomic>

#include "decode_worker/decode_scheduler.h"
#include "engine/kv/paged_kv.h"
#include "winnow/v1/decode.grpc.pb.h"

namespace winnow {

// The gRPC shell of a decode worker's generations.
class DecodeService final : public v1::DecodeService::CallbackService {
 public:
  struct Options {
    v1::WorkerInfo info;  // all but the load
  };
  // All must outlive it.
  DecodeService(DecodeScheduler& scheduler, ReservationTable& table, const PagedKv& kv,
                const Clock& clock, Options options)
      : scheduler_(scheduler),
        table_(table),
        kv_(kv),
        clock_(clock),
        options_(std::move(options)) {}

  grpc::ServerWriteReactor<v1::DecodeResponse>* Decode(grpc::CallbackServerContext* context,
                                                       const v1::DecodeRequest* request) override;
  grpc::ServerUnaryReactor* AbortDecode(grpc::CallbackServerContext* context,
                                        const v1::AbortDecodeRequest* request,
                                        v1::AbortDecodeResponse* response) override;
  grpc::ServerUnaryReactor* GetDecodeInfo(grpc::CallbackServerContext* context,
                                          const v1::GetDecodeInfoRequest* request,
                                          v1::GetDecodeInfoResponse* response) override;

 private:
  // NOT_FOUND for a reservation that is unknown or has ended.
  absl::Status CheckLive(const std::string& reservation_id) const;

  DecodeScheduler& scheduler_;
  ReservationTable& table_;
  const PagedKv& kv_;
  const Clock& clock_;
  const Options options_;
};

}  // namespace winnow
