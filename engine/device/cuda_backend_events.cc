// The events and moments of CudaBackend.
#include <cuda_runtime_api.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/device/cuda_backend.h"

namespace winnow {

class CudaBackend::CudaEvent final : public Event {
 public:
  CudaEvent(std::shared_ptr<State> state, CudaStream stream)
      : state_(std::move(state)), enqueued_before_(state_->num_enqueued) {
    cudaError_t error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaEventRecord(event_, stream);
    if (error != cudaSuccess) {
      state_->Keep(absl::StrCat("CUDA: event: ", cudaGetErrorString(error)));
    }
  }
  ~CudaEvent() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  // Also when it never will be: Wait tells why.
  bool IsDone() const override {
    const cudaError_t state = event_ == nullptr ? cudaErrorInvalidValue : cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    if (state != cudaSuccess) state_->Keep(absl::StrCat("CUDA: ", cudaGetErrorString(state)));
    return true;
  }
  absl::Status Wait(const Clock& clock, Deadline deadline) override {
    if (enqueued_before_ == state_->num_enqueued) ++state_->num_drains;
    for (int looks = 0; !IsDone(); ++looks) {
      if (deadline.HasPassed(clock)) {
        return absl::DeadlineExceededError("CUDA: the queue was not done in time");
      }
      if (looks > 1000) absl::SleepFor(absl::Microseconds(20));  // the first 1 ms or so it spins
    }
    return state_->Error();
  }

 private:
  const std::shared_ptr<State> state_;
  const int64_t enqueued_before_;
  cudaEvent_t event_ = nullptr;
};

class CudaBackend::CudaMoment final : public Moment {
 public:
  CudaMoment(std::shared_ptr<State> state, CudaStream stream) : state_(std::move(state)) {
    cudaError_t error = cudaEventCreate(&event_);
    if (error == cudaSuccess) error = cudaEventRecord(event_, stream);
    Keep(error);
  }
  ~CudaMoment() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  double SecondsSince(const Moment& earlier) const override {
    float ms = 0;
    Keep(cudaEventElapsedTime(&ms, static_cast<const CudaMoment&>(earlier).event_, event_));
    return ms * 1e-3;
  }

 private:
  void Keep(cudaError_t error) const {
    if (error == cudaSuccess) return;
    cudaGetLastError();
    state_->Keep(absl::StrCat("CUDA: moment: ", cudaGetErrorString(error)));
  }
  const std::shared_ptr<State> state_;
  cudaEvent_t event_ = nullptr;
};

EventPtr CudaBackend::Record() {
  Use();
  return std::make_shared<CudaEvent>(state_, stream_);
}

MomentPtr CudaBackend::Mark() {
  Use();
  return std::make_unique<CudaMoment>(state_, stream_);
}

EventPtr CudaBackend::RecordOut() {
  FollowQueue();
  return std::make_shared<CudaEvent>(state_, out_stream_);
}

}  // namespace winnow
