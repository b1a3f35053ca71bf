#include "engine/device/pinned_pool.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr size_t kGranule = 64 << 10;

}  // namespace

PinnedPool::~PinnedPool() {
  for (const auto& [bytes, data] : idle_) cudaFreeHost(data);
}

absl::StatusOr<Buffer> PinnedPool::Allocate(size_t bytes) {
  size_t rounded = (std::max<size_t>(bytes, 1) + kGranule - 1) / kGranule * kGranule;
  void* data = nullptr;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // One of up to half as much again will do.
    const auto idle = idle_.lower_bound(rounded);
    if (idle != idle_.end() && idle->first <= rounded + rounded / 2) {
      rounded = idle->first;
      data = idle->second;
      idle_bytes_ -= rounded;
      idle_.erase(idle);
    }
  }
  if (data == nullptr) {
    if (const cudaError_t error = cudaMallocHost(&data, rounded); error != cudaSuccess) {
      cudaGetLastError();
      return absl::ResourceExhaustedError(absl::StrCat(
          "CUDA: no ", bytes, " bytes of pinned host memory: ", cudaGetErrorString(error)));
    }
  }
  return Buffer(data, bytes,
                [pool = shared_from_this(), rounded](void* p) { pool->GiveBack(p, rounded); });
}

void PinnedPool::GiveBack(void* data, size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (idle_bytes_ + bytes <= kMaxIdleBytes) {
      idle_.emplace(bytes, data);
      idle_bytes_ += bytes;
      return;
    }
  }
  cudaFreeHost(data);
}

}  // namespace winnow
