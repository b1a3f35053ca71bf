#include "engine/device/cuda_fence.h"

#include <cuda_runtime_api.h>

#include <utility>

namespace winnow {

CudaFence::CudaFence(int device) {
  cudaSetDevice(device);
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  event_ = event;
}

CudaFence::~CudaFence() {
  if (event_ != nullptr) cudaEventDestroy(static_cast<cudaEvent_t>(event_));
}

CudaFence::CudaFence(CudaFence&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}

void CudaFence::Record(CudaStream stream) {
  cudaEventRecord(static_cast<cudaEvent_t>(event_), stream);
}

void CudaFence::HoldBack(CudaStream stream) const {
  cudaStreamWaitEvent(stream, static_cast<cudaEvent_t>(event_));
}

}  // namespace winnow
