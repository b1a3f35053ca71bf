#pragma once

#include <string>

#include "common/clock.h"
#include "plan/model_shape.h"
#include "prefill_worker/prefill_scheduler.h"
#include "winnow/v1/prefill.grpc.pb.h"

namespace winnow {

// The gRPC shell of a prefill worker: parses and checks requests, submits them to the scheduler and
// streams their events. Thread-safe.
class PrefillService final : public v1::PrefillService::CallbackService {
 public:
  struct Options {
    v1::WorkerInfo info;  // without the load
    ModelShape shape;     // with the worker's own max_context
    bool allow_explain = false;
  };
  // Both must outlive it.
  PrefillService(PrefillScheduler& scheduler, const Clock& clock, Options options)
      : scheduler_(scheduler), clock_(clock), options_(std::move(options)) {}

  grpc::ServerWriteReactor<v1::PrefillResponse>* Prefill(
      grpc::CallbackServerContext* context, const v1::PrefillRequest* request) override;
  grpc::ServerWriteReactor<v1::ResendResponse>* Resend(grpc::CallbackServerContext* context,
                                                       const v1::ResendRequest* request) override;
  grpc::ServerUnaryReactor* GetInfo(grpc::CallbackServerContext* context,
                                    const v1::GetInfoRequest* request,
                                    v1::GetInfoResponse* response) override;

 private:
  absl::StatusOr<PrefillJob> ParseJob(grpc::CallbackServerContext& context,
                                      const v1::PrefillRequest& request) const;

  PrefillScheduler& scheduler_;
  const Clock& clock_;
  const Options options_;
};

}  // namespace winnow
