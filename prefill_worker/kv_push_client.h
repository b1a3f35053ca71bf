#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "common/clock.h"
#include "common/deadline.h"
#include "common/trace_context.h"
#include "transfer/kv_sender.h"
#include "winnow/v1/kv_transfer.grpc.pb.h"

namespace winnow {

// One Push stream to a decode worker: an opening message, then chunks whose payload is sent from
// where it lies. One write is in flight; the rest waits (the sender's credits bound it).
class PushStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, v1::PushResponse> {
 public:
  struct Callbacks {
    std::function<void(const v1::PushResponse&)> acknowledged;
    std::function<void(const absl::Status&)> ended;  // once, after everything else
  };
  // Small chunks that wait for each other travel in one message if it `gathers` (wire version 2).
  // `payload_owner` keeps the chunks' memory alive until gRPC has let go of it. At the deadline the
  // stream ends with DEADLINE_EXCEEDED. It deletes itself after `ended`.
  static PushStream* Start(const std::shared_ptr<grpc::Channel>& channel, const v1::PushOpen& open,
                           Deadline deadline, const Clock& clock, const TraceContext& trace,
                           bool gathers, std::shared_ptr<const void> payload_owner,
                           Callbacks callbacks);

  void Send(const KvChunk& chunk);
  // No more chunks; the server then ends the stream.
  void FinishWrites();
  // `ended` then hears CANCELLED, unless the stream has ended otherwise.
  void Cancel();

 private:
  PushStream(const std::shared_ptr<grpc::Channel>& channel, bool gathers,
             std::shared_ptr<const void> payload_owner, Callbacks callbacks)
      : callbacks_(std::move(callbacks)),
        stub_(channel),
        gathers_(gathers),
        payload_owner_(std::move(payload_owner)) {}

  void OnWriteDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  // Both with the lock held.
  grpc::ByteBuffer TakeMessage();
  void WriteNext();
  void Break();

  const Callbacks
      callbacks_;  // first, so that what they keep alive outlives our share of the channel
  grpc::TemplatedGenericStub<grpc::ByteBuffer, v1::PushResponse> stub_;
  grpc::ClientContext context_;
  const bool gathers_;
  const std::shared_ptr<const void> payload_owner_;
  v1::PushResponse response_;  // of the read in flight

  std::mutex mutex_;
  std::deque<KvChunk> waiting_;
  grpc::ByteBuffer message_;  // in flight while is_writing_
  bool is_writing_ = false;
  bool corrupts_ = false;  // the next message, by a fault point
  bool finish_writes_ = false;
  bool writes_done_ = false;
  bool broken_ = false;
};

}  // namespace winnow
