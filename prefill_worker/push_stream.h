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
// where it lies. One write is in flight; other chunks wait, bounded by the sender's credits.
class PushStream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, v1::PushResponse> {
 public:
  struct Options {
    v1::PushOpen open;
    Deadline deadline = Deadline::Infinite();  // the stream then ends with DEADLINE_EXCEEDED
    TraceContext trace;
    // Keeps the chunks' memory alive until gRPC has let go of it.
    std::shared_ptr<const void> payload_owner;
    const Clock* clock = nullptr;
  };
  struct Callbacks {
    std::function<void(const v1::PushResponse&)> acknowledged;
    std::function<void(const absl::Status&)> ended;  // once, after everything else
  };
  // The stream deletes itself after `ended`, and only then drops its callbacks.
  static PushStream* Start(const std::shared_ptr<grpc::Channel>& channel, const Options& options,
                           Callbacks callbacks);

  void Send(const KvChunk& chunk);
  // No more chunks will come; the server then ends the stream.
  void FinishWrites();
  // `ended` then gets CANCELLED, unless the stream has ended otherwise.
  void Cancel();

 private:
  PushStream(const std::shared_ptr<grpc::Channel>& channel, const Options& options,
             Callbacks callbacks)
      : callbacks_(std::move(callbacks)), stub_(channel), payload_owner_(options.payload_owner) {}

  void OnWriteDone(bool ok) override;
  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;
  // Both with the lock held.
  grpc::ByteBuffer TakeMessage();
  void WriteNext();
  void Break();

  // First, so that what the callbacks keep alive outlives our share of the channel.
  const Callbacks callbacks_;
  grpc::TemplatedGenericStub<grpc::ByteBuffer, v1::PushResponse> stub_;
  grpc::ClientContext context_;
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
