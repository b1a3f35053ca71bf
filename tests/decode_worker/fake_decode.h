#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "decode_worker/decode_scheduler.h"
#include "transfer/kv_target.h"

namespace winnow {

// How long a test waits for what must happen; never the measure of anything.
inline constexpr std::chrono::seconds kPatience{20};

// An engine that computes nothing: token t at position p of handle h is followed by 100·h + p − 9,
// so that a wrong token, position or handle shows in what comes out. Steps can be held back one by
// one.
class FakeDecodeEngine final : public DecodeEngine {
 public:
  struct Item {
    int64_t handle = 0, position = 0, entries_added = 0,
            sample_index = -1;  // −1: nothing was drawn
    int32_t token = 0;
    uint64_t seed = 0;  // of what was drawn
    friend bool operator==(const Item&, const Item&) = default;
  };

  explicit FakeDecodeEngine(int max_batch = 8) : FakeDecodeEngine(TinyShape(), max_batch) {}
  explicit FakeDecodeEngine(const ModelShape& shape, int max_batch = 8)
      : max_batch_(max_batch), shape_(shape) {}
  const ModelShape& shape() const override { return shape_; }
  int max_batch() const override { return max_batch_; }
  static int32_t Next(int64_t handle, int64_t position) {
    return static_cast<int32_t>(100 * handle + position - 9);
  }

  absl::StatusOr<std::vector<int32_t>> Step(absl::Span<const DecodeStepItem> items) override {
    std::unique_lock<std::mutex> lock(mutex_);
    std::vector<Item> seen;
    for (const DecodeStepItem& item : items) {
      seen.push_back({item.handle, item.position, item.entries_added,
                      item.sampling ? item.sample_index : -1, item.token,
                      item.sampling ? item.sampling->seed : 0});
    }
    steps_.push_back(std::move(seen));
    changed_.notify_all();
    // A held engine computes until it is allowed to end the step.
    changed_.wait_for(lock, kPatience, [this] { return allowed_ != 0; });
    if (allowed_ > 0) --allowed_;
    if (!error_.ok()) return std::exchange(error_, absl::OkStatus());
    std::vector<int32_t> tokens;
    for (const DecodeStepItem& item : items) {
      tokens.push_back(item.sampling ? Next(item.handle, item.position) : -1);
    }
    return tokens;
  }

  // From now on a step ends only when Allow lets it.
  void Hold() {
    Set([this] { allowed_ = 0; });
  }
  void Allow(int steps) {
    Set([=, this] { allowed_ = std::max(allowed_, 0) + steps; });
  }
  void Run() {
    Set([this] { allowed_ = -1; });
  }
  void FailNext(absl::Status error) {
    Set([&] { error_ = std::move(error); });
  }

  // Waits until `count` steps have begun.
  bool WaitForSteps(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return steps_.size() >= count; });
  }
  std::vector<std::vector<Item>> steps() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return steps_;
  }

 private:
  void Set(const std::function<void()>& change) {
    std::lock_guard<std::mutex> lock(mutex_);
    change();
    changed_.notify_all();
  }

  static ModelShape TinyShape() {
    return {.num_layers = 1,
            .hidden = 4,
            .num_q_heads = 1,
            .num_kv_heads = 1,
            .head_dim = 4,
            .intermediate = 4,
            .vocab_size = 10000,
            .max_context = 1000};
  }

  const int max_batch_;
  const ModelShape shape_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::vector<Item>> steps_;
  absl::Status error_;
  int allowed_ = -1;  // steps that may end; −1: all
};

// What one subscriber heard, to wait for: "1:101", "2:42 stop last", "end OK". Subscribers may
// outlive it, as they do when a test fails half-way.
class TokenLog {
 public:
  DecodeSubscriber subscriber() {
    return {.token =
                [heard = heard_](const DecodedToken& token) {
                  heard->Add(absl::StrCat(token.index, ":", token.id, token.is_stop ? " stop" : "",
                                          token.is_last ? " last" : ""));
                },
            .ended =
                [heard = heard_](const absl::Status& status) {
                  heard->Add(absl::StrCat("end ", absl::StatusCodeToString(status.code())),
                             &status);
                }};
  }
  // All events, once the end has come.
  std::vector<std::string> Wait() {
    return WaitUntil([this] { return heard_->ends > 0; });
  }
  std::vector<std::string> WaitForTokens(size_t count) {
    return WaitUntil([=, this] { return heard_->events.size() >= count; });
  }
  std::vector<std::string> events() const {
    std::lock_guard<std::mutex> lock(heard_->mutex);
    return heard_->events;
  }
  absl::Status status() const {
    std::lock_guard<std::mutex> lock(heard_->mutex);
    return heard_->status;
  }
  int ends() const {
    std::lock_guard<std::mutex> lock(heard_->mutex);
    return heard_->ends;
  }

 private:
  struct Heard {
    void Add(std::string event, const absl::Status* end = nullptr) {
      std::lock_guard<std::mutex> lock(mutex);
      events.push_back(std::move(event));
      if (end != nullptr) status = *end;
      ends += end != nullptr;
      changed.notify_all();
    }
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> events;
    absl::Status status;
    int ends = 0;
  };
  std::vector<std::string> WaitUntil(const std::function<bool()>& done) {
    std::unique_lock<std::mutex> lock(heard_->mutex);
    heard_->changed.wait_for(lock, kPatience, done);
    return heard_->events;
  }
  const std::shared_ptr<Heard> heard_ = std::make_shared<Heard>();
};

// The handles that were freed.
class ReleaseLog {
 public:
  void Add(int64_t handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    handles_.push_back(handle);
    changed_.notify_all();
  }
  // In order of handles, once there are `count`.
  std::vector<int64_t> Wait(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kPatience, [&] { return handles_.size() >= count; });
    std::vector<int64_t> sorted = handles_;
    std::sort(sorted.begin(), sorted.end());
    return sorted;
  }
  // Whether one is freed within `time`.
  bool WaitFor(std::chrono::milliseconds time) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, time, [&] { return !handles_.empty(); });
  }
  size_t size() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return handles_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> handles_;
};

// Another target's memory, and a log of what is freed in it. The log must outlive it.
class LoggedTarget final : public KvTarget {
 public:
  LoggedTarget(std::unique_ptr<KvTarget> target, ReleaseLog& log)
      : target_(std::move(target)), log_(log) {}

  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) override {
    return target_->Reserve(plan, extra_tokens);
  }
  void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) override {
    target_->Write(handle, header, payload);
  }
  void Free(int64_t handle) override {
    target_->Free(handle);
    log_.Add(handle);
  }
  Blocks blocks() const override { return target_->blocks(); }

 private:
  const std::unique_ptr<KvTarget> target_;
  ReleaseLog& log_;
};

}  // namespace winnow
