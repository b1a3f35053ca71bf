#include "prefill_worker/push_stream.h"

#include <utility>
#include <vector>

#include "common/fault.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/trace_metadata.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr size_t kGatheredBytes = 1 << 20;  // payload of one message that gathers chunks, at most
constexpr size_t kCopiedBytes = 16 << 10;   // payloads up to this are copied into their message
constexpr char kPushMethod[] = "/winnow.v1.KvTransferService/Push";

// A slice over `data`, which `owner` keeps alive until gRPC drops the slice.
grpc::Slice BorrowedSlice(const std::byte* data, size_t size,
                          const std::shared_ptr<const void>& owner) {
  auto* holder = new std::shared_ptr<const void>(owner);
  return grpc::Slice(
      const_cast<std::byte*>(data), size,
      [](void* user_data) { delete static_cast<std::shared_ptr<const void>*>(user_data); }, holder);
}

// A slice that owns its bytes.
grpc::Slice SliceOf(std::string bytes) {
  auto* owned = new std::string(std::move(bytes));
  return grpc::Slice(
      owned->data(), owned->size(), [](void* string) { delete static_cast<std::string*>(string); },
      owned);
}

// A copy of the message with its last bit flipped.
grpc::ByteBuffer Corrupted(const grpc::ByteBuffer& message) {
  grpc::Slice whole;
  if (!message.DumpToSingleSlice(&whole).ok()) return message;
  std::string bytes(whole.begin(), whole.end());
  bytes.back() ^= 1;
  const grpc::Slice flipped = SliceOf(std::move(bytes));
  return grpc::ByteBuffer(&flipped, 1);
}

}  // namespace

PushStream* PushStream::Start(const std::shared_ptr<grpc::Channel>& channel, const Options& options,
                              Callbacks callbacks) {
  auto* stream = new PushStream(channel, options, std::move(callbacks));
  SetDeadline(stream->context_, options.deadline, *options.clock);
  SendTrace(stream->context_, options.trace);
  stream->stub_.PrepareBidiStreamingCall(&stream->context_, kPushMethod, grpc::StubOptions(),
                                         stream);
  // Chunks come from other threads. FinishWrites or a failed write drops the hold.
  stream->AddHold();
  v1::PushRequest first;
  *first.mutable_open() = options.open;
  const grpc::Slice slice(first.SerializeAsString());
  stream->message_ = grpc::ByteBuffer(&slice, 1);
  stream->is_writing_ = true;
  stream->StartWrite(&stream->message_);
  stream->StartRead(&stream->response_);
  stream->StartCall();
  return stream;
}

void PushStream::Send(const KvChunk& chunk) {
  const Fault fault = FaultAt("prefill.push.chunk", static_cast<int>(chunk.header.stream));
  if (fault == Fault::kDrop) return;
  if (fault == Fault::kFail) context_.TryCancel();
  std::lock_guard<std::mutex> lock(mutex_);
  if (broken_ || finish_writes_) return;
  waiting_.push_back(chunk);
  if (fault == Fault::kRepeat) waiting_.push_back(chunk);
  if (fault == Fault::kCorrupt) corrupts_ = true;
  if (!is_writing_) WriteNext();
}

// The next chunk and those that wait behind it: a message costs as much as
// copying some KiB. Payloads are sent from where they lie, small ones copied beside their headers.
grpc::ByteBuffer PushStream::TakeMessage() {
  std::vector<grpc::Slice> slices;
  std::string copied;  // since the last slice
  size_t bytes = 0;
  do {
    const KvChunk chunk = waiting_.front();
    waiting_.pop_front();
    copied += EncodePrefix(chunk.header);
    bytes += chunk.header.payload_bytes;
    if (chunk.header.payload_bytes <= kCopiedBytes) {
      copied.append(reinterpret_cast<const char*>(chunk.payload), chunk.header.payload_bytes);
      continue;
    }
    slices.push_back(SliceOf(std::exchange(copied, {})));
    slices.push_back(BorrowedSlice(chunk.payload, chunk.header.payload_bytes, payload_owner_));
  } while (!waiting_.empty() && bytes + waiting_.front().header.payload_bytes <= kGatheredBytes);
  if (!copied.empty()) slices.push_back(SliceOf(std::move(copied)));
  return grpc::ByteBuffer(slices.data(), slices.size());
}

void PushStream::WriteNext() {
  if (!waiting_.empty()) {
    message_ = TakeMessage();
    if (std::exchange(corrupts_, false)) message_ = Corrupted(message_);
    is_writing_ = true;
    StartWrite(&message_);
  } else if (finish_writes_ && !writes_done_) {
    writes_done_ = true;
    StartWritesDone();
    RemoveHold();
  }
}

void PushStream::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mutex_);
  is_writing_ = false;
  message_.Clear();
  if (!ok) Break();  // the stream has ended; OnDone tells why
  if (!broken_) {
    WriteNext();
  } else {
    waiting_.clear();
  }
}

void PushStream::FinishWrites() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (broken_ || finish_writes_) return;
  finish_writes_ = true;
  if (!is_writing_) WriteNext();
}

void PushStream::Cancel() {
  context_.TryCancel();
  std::lock_guard<std::mutex> lock(mutex_);
  Break();
}

// No more writes; lets go of the hold, so that OnDone can come. The lock is held.
void PushStream::Break() {
  broken_ = true;
  if (writes_done_) return;
  writes_done_ = true;
  RemoveHold();
}

void PushStream::OnReadDone(bool ok) {
  if (!ok) {  // the server has ended the stream
    std::lock_guard<std::mutex> lock(mutex_);
    Break();
    return;
  }
  callbacks_.acknowledged(response_);
  StartRead(&response_);
}

void PushStream::OnDone(const grpc::Status& status) {
  callbacks_.ended(FromGrpcStatus(status, context_));
  delete this;
}

}  // namespace winnow
