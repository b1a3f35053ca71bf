#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "router/worker_clients.h"

namespace winnow {

// Workers that do what the test says, one call at a time: each started call is noted and waits for
// the test to drive it.
class FakeWorkers final : public WorkerClients {
 public:
  template <typename Request, typename Response>
  struct Call final : public StreamCall {
    std::string address;
    Request request;
    TraceContext trace;
    StreamCallbacks<Response> callbacks;
    bool cancelled = false;
    bool ended = false;
    void Cancel() override { cancelled = true; }
    void Say(const Response& message) {
      if (!ended) callbacks.message(message);
    }
    void End(const absl::Status& status) {
      if (std::exchange(ended, true)) return;
      callbacks.ended(status);
    }
  };
  using PrefillCall = Call<v1::PrefillRequest, v1::PrefillResponse>;
  using ResendCall = Call<v1::ResendRequest, v1::ResendResponse>;
  using DecodeCall = Call<v1::DecodeRequest, v1::DecodeResponse>;

  std::shared_ptr<StreamCall> Prefill(const std::string& address, const v1::PrefillRequest& request,
                                      const CallScope& scope,
                                      StreamCallbacks<v1::PrefillResponse> callbacks) override {
    return Note(prefills, address, request, scope, std::move(callbacks));
  }
  std::shared_ptr<StreamCall> Resend(const std::string& address, const v1::ResendRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::ResendResponse> callbacks) override {
    return Note(resends, address, request, scope, std::move(callbacks));
  }
  std::shared_ptr<StreamCall> Decode(const std::string& address, const v1::DecodeRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::DecodeResponse> callbacks) override {
    return Note(decodes, address, request, scope, std::move(callbacks));
  }
  void AbortDecode(const std::string& address, const std::string& reservation_id,
                   const std::string&) override {
    aborts.push_back(address + "/" + reservation_id);
  }
  void GetInfo(const std::string& address, v1::WorkerRole role, Deadline,
               std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (holds_polls_) {
        held_polls_.push_back([this, address, role, done] { done(Info(address, role)); });
        return;
      }
    }
    done(Info(address, role));
  }
  void Forget(const std::string& address) override {
    std::lock_guard<std::mutex> lock(mutex_);
    forgotten_.push_back(address);
  }
  std::vector<std::string> forgotten() {
    std::lock_guard<std::mutex> lock(mutex_);
    return forgotten_;
  }
  void SetIncarnation(uint64_t incarnation) {
    std::lock_guard<std::mutex> lock(mutex_);
    incarnation_ = incarnation;
  }
  void SetDown(const std::string& address, bool is_down) {
    std::lock_guard<std::mutex> lock(mutex_);
    down_[address] = is_down;
  }
  // What all workers say of themselves, but for role, digest and incarnation.
  void SetModel(v1::WorkerInfo model) {
    std::lock_guard<std::mutex> lock(mutex_);
    model_ = std::move(model);
  }
  // From now on no poll is answered before AnswerPolls.
  void HoldPolls() {
    std::lock_guard<std::mutex> lock(mutex_);
    holds_polls_ = true;
  }
  size_t num_held_polls() {
    std::lock_guard<std::mutex> lock(mutex_);
    return held_polls_.size();
  }
  void AnswerPolls() {
    for (const auto& answer : held_polls_) answer();
  }
  int num_polls(const std::string& address) {
    std::lock_guard<std::mutex> lock(mutex_);
    return num_polls_[address];
  }

  std::vector<std::shared_ptr<PrefillCall>> prefills;
  std::vector<std::shared_ptr<ResendCall>> resends;
  std::vector<std::shared_ptr<DecodeCall>> decodes;
  std::vector<std::string> aborts;

 private:
  template <typename Request, typename Response>
  std::shared_ptr<StreamCall> Note(std::vector<std::shared_ptr<Call<Request, Response>>>& list,
                                   const std::string& address, const Request& request,
                                   const CallScope& scope, StreamCallbacks<Response> callbacks) {
    auto call = std::make_shared<Call<Request, Response>>();
    call->address = address;
    call->request = request;
    call->trace = scope.trace;
    call->callbacks = std::move(callbacks);
    list.push_back(call);
    return call;
  }
  absl::StatusOr<v1::WorkerInfo> Info(const std::string& address, v1::WorkerRole role) {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_polls_[address];
    if (down_[address]) return absl::UnavailableError("down");
    v1::WorkerInfo info = model_;
    info.set_role(role);
    info.set_layout_digest("layout");
    info.set_incarnation(incarnation_);
    return info;
  }
  std::mutex mutex_;
  std::map<std::string, bool> down_;
  std::map<std::string, int> num_polls_;
  std::vector<std::string> forgotten_;
  bool holds_polls_ = false;
  std::vector<std::function<void()>> held_polls_;
  uint64_t incarnation_ = 7;
  v1::WorkerInfo model_;
};

}  // namespace winnow
