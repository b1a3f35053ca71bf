#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/comm/nccl_api.h"

namespace winnow {

// NCCL's host side over host memory: a call is in progress until every rank has made it, errors of
// one rank show on all, an abort ends a communicator for good. Streams are ignored. Thread-safe.
class FakeNccl final : public NcclApi {
 public:
  absl::StatusOr<std::vector<NcclComm>> Init(const std::vector<int>& devices) override {
    std::lock_guard<std::mutex> lock(mutex_);
    ++num_inits;
    if (!init_error.empty()) return absl::InternalError(init_error);
    calls_.assign(devices.size(), {});
    failure_.clear();
    std::vector<NcclComm> comms;
    for (size_t rank = 0; rank < devices.size(); ++rank) {
      comms_.push_back(std::make_unique<Comm>(Comm{static_cast<int>(rank)}));
      comms.push_back(comms_.back().get());
    }
    return comms;
  }

  Result AllReduce(NcclComm comm, void* data, DType dtype, int64_t count, Reduction reduction,
                   CudaStream) override {
    return Post(comm, {.data = data, .dtype = dtype, .count = count, .reduction = reduction});
  }
  Result AllGather(NcclComm comm, const void* in, void* out, int64_t bytes, CudaStream) override {
    return Post(comm, {.data = const_cast<void*>(in), .out = out, .count = bytes});
  }
  Result AsyncResult(NcclComm comm) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const Comm& c = Use(comm);
    if (init_hangs || c.hangs) return Result::kInProgress;
    if (!failure_.empty()) return Result::kError;
    return calls_[c.rank].posted ? Result::kInProgress : Result::kSuccess;
  }
  std::string ErrorText(NcclComm comm) override {
    std::lock_guard<std::mutex> lock(mutex_);
    Use(comm);
    return failure_;
  }
  void Abort(NcclComm comm) override {
    std::lock_guard<std::mutex> lock(mutex_);
    Use(comm).aborted = true;
    ++num_aborts;
  }

  // From the next call on: `rank` never gets through, and so nobody does.
  void Hang(int rank) {
    std::lock_guard<std::mutex> lock(mutex_);
    hanging_rank_ = rank;
  }
  // Until so many ranks wait in a call for the others. False: they did not come within 30 s.
  bool WaitForPosted(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return posted_.wait_for(lock, std::chrono::seconds(30), [&] {
      return std::count_if(calls_.begin(), calls_.end(), [](const Call& k) { return k.posted; }) >=
             count;
    });
  }
  // Every communicator reports this error.
  void Fail(const std::string& text) {
    std::lock_guard<std::mutex> lock(mutex_);
    failure_ = text;
  }

  std::atomic<bool> init_hangs{false};
  std::string init_error;
  std::atomic<int> num_inits{0}, num_aborts{0}, num_uses_after_abort{0};

 private:
  struct Comm {
    int rank = 0;
    bool aborted = false;
    bool hangs = false;
  };
  struct Call {
    void* data = nullptr;
    void* out = nullptr;  // of a gather
    DType dtype = DType::kF32;
    int64_t count = 0;
    Reduction reduction = Reduction::kSum;
    bool posted = false;
  };

  Comm& Use(NcclComm comm) {
    auto& c = *static_cast<Comm*>(comm);
    if (c.aborted) ++num_uses_after_abort;
    return c;
  }
  Result Post(NcclComm comm, Call call) {
    std::lock_guard<std::mutex> lock(mutex_);
    Comm& c = Use(comm);
    if (c.rank == hanging_rank_) {
      c.hangs = true;
      hanging_rank_ = -1;
      return Result::kInProgress;
    }
    call.posted = true;
    calls_[c.rank] = call;
    posted_.notify_all();
    if (!std::all_of(calls_.begin(), calls_.end(), [](const Call& k) { return k.posted; })) {
      return Result::kInProgress;
    }
    call.out != nullptr ? Gather() : Reduce();
    for (Call& k : calls_) k.posted = false;
    return Result::kSuccess;
  }
  void Gather() {
    for (const Call& to : calls_) {
      for (size_t rank = 0; rank < calls_.size(); ++rank) {
        std::memcpy(static_cast<char*>(to.out) + rank * to.count, calls_[rank].data, to.count);
      }
    }
  }
  // f32 only; in rank order.
  void Reduce() {
    for (int64_t i = 0; i < calls_[0].count; ++i) {
      float sum = static_cast<float*>(calls_[0].data)[i];
      for (size_t rank = 1; rank < calls_.size(); ++rank) {
        const float x = static_cast<float*>(calls_[rank].data)[i];
        sum = calls_[0].reduction == Reduction::kMax ? std::max(sum, x) : sum + x;
      }
      for (const Call& call : calls_) static_cast<float*>(call.data)[i] = sum;
    }
  }

  std::mutex mutex_;
  std::condition_variable posted_;
  std::vector<std::unique_ptr<Comm>> comms_;  // kept, so that a use after an abort is seen
  std::vector<Call> calls_;
  std::string failure_;
  int hanging_rank_ = -1;
};

}  // namespace winnow
