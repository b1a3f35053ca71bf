#pragma once

#include "kernels/types.h"

namespace winnow {

// A point in one stream that others can wait for, on the device. Not yet recorded, it is passed.
// Errors come out of the backends' events.
class CudaFence {
 public:
  explicit CudaFence(int device);  // of the streams that record it
  ~CudaFence();
  CudaFence(CudaFence&& other) noexcept;
  CudaFence& operator=(CudaFence&&) = delete;

  // Moves it to what `stream` holds now.
  void Record(CudaStream stream);
  // What `stream`, of any device, gets from now on waits for it.
  void HoldBack(CudaStream stream) const;

 private:
  void* event_ = nullptr;  // cudaEvent_t
};

}  // namespace winnow
