#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/clock.h"
#include "gtest/gtest.h"
#include "plan/wire_version.h"
#include "rpc/server.h"
#include "winnow/v1/kv_transfer.grpc.pb.h"

namespace winnow {

// A decode worker that grants every reservation, acknowledges every chunk and commits when it is
// told to, served on loopback. Thread-safe. Waits end after 20 s.
class FakeDecodeWorker final : public v1::KvTransferService::Service {
 public:
  // `clock`, the prefill worker's, must outlive it: calls are noted with its time.
  explicit FakeDecodeWorker(const Clock& clock, absl::Duration ttl = absl::Seconds(20))
      : clock_(clock), ttl_(ttl) {
    auto started = StartServer({.services = {this}});
    EXPECT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
  }
  ~FakeDecodeWorker() override { server_->Shutdown(absl::ZeroDuration()); }

  const std::string& address() const { return server_->address(); }
  // Called by each commit before its answer. Set before it is used.
  std::function<void()> on_commit = [] {};
  // The next commits are answered UNAVAILABLE.
  void FailCommits(int count) {
    std::lock_guard<std::mutex> lock(mutex_);
    failing_commits_ = count;
  }
  // When the calls of this name came. Waits up to `longest` until there are `count`.
  std::vector<absl::Time> AwaitCalls(const std::string& name, size_t count,
                                     std::chrono::milliseconds longest = std::chrono::seconds(20)) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, longest, [&] { return calls_[name].size() >= count; });
    return calls_[name];
  }

  grpc::Status Reserve(grpc::ServerContext*, const v1::ReserveRequest*,
                       v1::ReserveResponse* response) override {
    Note("reserve");
    response->set_reservation_id(std::string(16, 'r'));
    response->set_ttl_ms(absl::ToInt64Milliseconds(ttl_));
    response->set_credit_bytes_per_stream(1 << 20);
    response->set_target_incarnation(7);
    response->set_wire_version(kWireVersion);
    return grpc::Status::OK;
  }
  grpc::Status Push(grpc::ServerContext*,
                    grpc::ServerReaderWriter<v1::PushResponse, v1::PushRequest>* stream) override {
    v1::PushRequest message;
    v1::PushResponse acknowledgement;
    for (uint64_t chunks = 0; stream->Read(&message);) {
      if (message.has_open()) continue;
      int64_t bytes = 0;
      for (const std::string& payload : message.payload()) bytes += payload.size();
      acknowledgement.set_acknowledged_sequence(chunks += message.payload_size());
      acknowledgement.set_credit_bytes(bytes);
      stream->Write(acknowledgement);
    }
    return grpc::Status::OK;
  }
  grpc::Status Commit(grpc::ServerContext*, const v1::CommitRequest*,
                      v1::CommitResponse*) override {
    Note("commit");
    on_commit();
    std::lock_guard<std::mutex> lock(mutex_);
    if (failing_commits_ == 0) return grpc::Status::OK;
    --failing_commits_;
    return {grpc::StatusCode::UNAVAILABLE, "restarting"};
  }
  grpc::Status Renew(grpc::ServerContext*, const v1::RenewRequest*, v1::RenewResponse*) override {
    Note("renew");
    return grpc::Status::OK;
  }
  grpc::Status Abort(grpc::ServerContext*, const v1::AbortRequest*, v1::AbortResponse*) override {
    Note("abort");
    return grpc::Status::OK;
  }

 private:
  void Note(const std::string& call) {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_[call].push_back(clock_.Now());
    changed_.notify_all();
  }

  const Clock& clock_;
  const absl::Duration ttl_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::vector<absl::Time>> calls_;
  int failing_commits_ = 0;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace winnow
