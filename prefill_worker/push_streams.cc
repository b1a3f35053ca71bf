#include "prefill_worker/push_streams.h"

#include <utility>

#include "common/fault.h"
#include "common/status_macros.h"

namespace winnow {

absl::Status PushStreams::Open(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                               PushStream::Options options, const Callbacks& callbacks) {
  // All slots first: callbacks of early streams come while later streams open.
  while (slots_.size() < channels.size()) slots_.push_back(std::make_unique<Slot>());
  for (int stream = 0; stream < static_cast<int>(channels.size()); ++stream) {
    WINNOW_RETURN_IF_ERROR(FailAt("prefill.push.open", stream));
    Slot& slot = *slots_[stream];
    PushStream::Callbacks of_stream;
    of_stream.acknowledged = [callbacks, stream](const v1::PushResponse& ack) {
      if (FaultAt("prefill.push.ack", stream) == Fault::kDrop) return;
      callbacks.acknowledged(stream, ack);
    };
    of_stream.ended = [callbacks, &slot](const absl::Status& status) {
      {
        std::lock_guard<std::mutex> lock(slot.mutex);
        slot.stream = nullptr;
      }
      callbacks.ended(status.ok()
                          ? absl::UnavailableError("push: the decode worker ended the stream")
                          : status);
    };
    options.open.set_stream(stream);
    std::lock_guard<std::mutex> lock(slot.mutex);  // `ended` waits until the stream is in its slot
    slot.stream = PushStream::Start(channels[stream], options, std::move(of_stream));
  }
  return absl::OkStatus();
}

void PushStreams::Send(int stream, const KvChunk& chunk) {
  Slot& slot = *slots_[stream];
  std::lock_guard<std::mutex> lock(slot.mutex);
  if (slot.stream != nullptr) slot.stream->Send(chunk);
}

void PushStreams::ForEachStream(void (PushStream::*action)()) {
  for (const std::unique_ptr<Slot>& slot : slots_) {
    std::lock_guard<std::mutex> lock(slot->mutex);
    if (slot->stream != nullptr) (slot->stream->*action)();
  }
}

}  // namespace winnow
