#include "prefill_worker/kv_push_client.h"

#include <utility>

#include "common/fault.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr char kPushMethod[] = "/winnow.v1.KvTransferService/Push";

// A slice over `data`, which `owner` keeps alive until gRPC drops the slice.
grpc::Slice BorrowedSlice(const std::byte* data, size_t size,
                          const std::shared_ptr<const void>& owner) {
  auto* holder = new std::shared_ptr<const void>(owner);
  return grpc::Slice(
      const_cast<std::byte*>(data), size,
      [](void* user_data) { delete static_cast<std::shared_ptr<const void>*>(user_data); }, holder);
}

// The message with one bit of its payload flipped (a fault point's).
grpc::ByteBuffer Corrupted(const grpc::Slice (&slices)[2]) {
  std::string payload(slices[1].begin(), slices[1].end());
  payload[payload.size() / 2] ^= 1;
  const grpc::Slice flipped[] = {slices[0], grpc::Slice(payload)};
  return grpc::ByteBuffer(flipped, 2);
}

}  // namespace

PushStream* PushStream::Start(const std::shared_ptr<grpc::Channel>& channel,
                              const v1::PushOpen& open, Deadline deadline, const Clock& clock,
                              std::shared_ptr<const void> payload_owner, Callbacks callbacks) {
  auto* stream = new PushStream(channel, std::move(payload_owner), std::move(callbacks));
  SetDeadline(stream->context_, deadline, clock);
  stream->stub_.PrepareBidiStreamingCall(&stream->context_, kPushMethod, grpc::StubOptions(),
                                         stream);
  stream
      ->AddHold();  // chunks come from other threads; dropped by FinishWrites or when a write fails
  v1::PushRequest first;
  *first.mutable_open() = open;
  const grpc::Slice slice(first.SerializeAsString());
  stream->Write(grpc::ByteBuffer(&slice, 1));
  stream->StartRead(&stream->response_);
  stream->StartCall();
  return stream;
}

void PushStream::Send(const KvChunk& chunk) {
  const grpc::Slice slices[] = {
      grpc::Slice(EncodePrefix(chunk.header)),
      BorrowedSlice(chunk.payload, chunk.header.payload_bytes, payload_owner_)};
  const Fault fault = FaultAt("prefill.push.chunk", static_cast<int>(chunk.header.stream));
  if (fault == Fault::kDrop) return;
  if (fault == Fault::kFail) context_.TryCancel();
  if (fault == Fault::kRepeat) Write(grpc::ByteBuffer(slices, 2));
  if (fault == Fault::kCorrupt) {
    Write(Corrupted(slices));
    return;
  }
  Write(grpc::ByteBuffer(slices, 2));
}

void PushStream::Write(grpc::ByteBuffer message) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (broken_ || finish_writes_) return;
  waiting_.push_back(std::move(message));
  if (waiting_.size() == 1) StartWrite(&waiting_.front());
}

void PushStream::WriteNext() {
  if (!waiting_.empty()) {
    StartWrite(&waiting_.front());
  } else if (finish_writes_ && !writes_done_) {
    writes_done_ = true;
    StartWritesDone();
    RemoveHold();
  }
}

void PushStream::OnWriteDone(bool ok) {
  std::lock_guard<std::mutex> lock(mutex_);
  waiting_.pop_front();
  if (!ok) {  // the stream has ended; OnDone tells why
    waiting_.clear();
    Break();
  } else if (!broken_) {
    WriteNext();
  } else {
    waiting_.clear();
  }
}

void PushStream::FinishWrites() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (broken_ || finish_writes_) return;
  finish_writes_ = true;
  if (waiting_.empty()) WriteNext();
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
