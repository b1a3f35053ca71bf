#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "prefill_worker/push_stream.h"
#include "transfer/push_transport.h"
#include "winnow/v1/kv_transfer.pb.h"

namespace winnow {

// The push transport over gRPC: the streams of one handoff, each on a connection of its own.
class PushStreams final : public PushTransport {
 public:
  struct Callbacks {
    // The decode worker has stored the stream's chunks below a sequence and grants more credit.
    std::function<void(int stream, const v1::PushResponse& ack)> acknowledged;
    // A stream has ended, for whatever reason: before the commit a failure. Once per stream.
    std::function<void(const absl::Status& why)> ended;
  };
  // Opens a stream on each channel; `options.open` is ready but for the stream's number. Call it
  // once, before Send. Each stream keeps a copy of `callbacks` until it has ended, and they must
  // keep this object alive that long. An error leaves streams that only Cancel ends.
  absl::Status Open(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                    PushStream::Options options, const Callbacks& callbacks);

  void Send(int stream, const KvChunk& chunk) override;
  void Finish() override { ForEachStream(&PushStream::FinishWrites); }
  void Cancel() override { ForEachStream(&PushStream::Cancel); }

 private:
  // A stream has a lock of its own, because writing to a stream may write to its socket.
  struct Slot {
    std::mutex mutex;
    PushStream* stream = nullptr;  // null once ended
  };
  void ForEachStream(void (PushStream::*action)());

  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace winnow
