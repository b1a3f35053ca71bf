#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "rpc/grpc_status.h"

namespace winnow {

// The reactor of a server stream whose messages come from other threads: a queue with one write in
// flight. Handed out as a shared_ptr; gRPC's own hold on it ends in OnDone. All calls are
// thread-safe; after Finish or a cancel they do nothing.
template <typename Message>
class QueuedWriter final : public grpc::ServerWriteReactor<Message>,
                           public std::enable_shared_from_this<QueuedWriter<Message>> {
 public:
  // `on_cancel` runs at most once, on a gRPC thread, when the client goes away before Finish.
  static std::shared_ptr<QueuedWriter> Create(grpc::CallbackServerContext& context) {
    auto writer = std::shared_ptr<QueuedWriter>(new QueuedWriter(context));
    writer->self_ = writer;
    return writer;
  }

  void SetOnCancel(std::function<void()> on_cancel) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (cancelled_) {
      lock.unlock();
      on_cancel();
      return;
    }
    on_cancel_ = std::move(on_cancel);
  }

  void Write(Message message) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (finishing_ || cancelled_) return;
    queue_.push_back(std::move(message));
    if (queue_.size() == 1) this->StartWrite(&queue_.front());
  }

  // Ends the stream after what is queued.
  void Finish(absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (finishing_) return;
    finishing_ = true;
    status_ = std::move(status);
    if (queue_.empty()) FinishNow();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.pop_front();
    if (!ok) queue_.clear();  // the client is gone
    if (!queue_.empty()) {
      this->StartWrite(&queue_.front());
    } else if (finishing_) {
      FinishNow();
    }
  }

  void OnCancel() override {
    std::function<void()> on_cancel;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      cancelled_ = true;
      if (!finishing_) on_cancel.swap(on_cancel_);
    }
    if (on_cancel) on_cancel();
  }

  void OnDone() override {
    std::function<void()> dropped;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      dropped.swap(on_cancel_);
    }
    auto last = std::move(self_);  // may destroy this
  }

 private:
  explicit QueuedWriter(grpc::CallbackServerContext& context) : context_(context) {}
  void FinishNow() { grpc::ServerWriteReactor<Message>::Finish(ToGrpcStatus(status_, context_)); }

  grpc::CallbackServerContext& context_;  // lives until OnDone
  std::shared_ptr<QueuedWriter> self_;
  std::mutex mutex_;
  std::deque<Message> queue_;
  std::function<void()> on_cancel_;
  bool finishing_ = false;
  bool cancelled_ = false;
  absl::Status status_;
};

}  // namespace winnow
