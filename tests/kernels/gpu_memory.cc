// Replaces operator new: memory comes from one pinned region that the GPU reaches, too.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "tests/kernels/on_gpu.h"

namespace winnow {
namespace {

constexpr size_t kRegionBytes = size_t{3} << 30;
constexpr size_t kAlignment = 256;

// First fit from the front, by free lists of equal sizes: tests allocate the same sizes again.
class Region {
 public:
  void* Take(size_t bytes) {
    bytes = (bytes + 2 * kAlignment - 1) / kAlignment * kAlignment;  // never ends at a neighbour
    std::lock_guard<std::mutex> lock(mutex_);
    if (begin_ == nullptr) Open();
    if (void* used = Pop(bytes)) return used;
    if (used_ + kAlignment + bytes > kRegionBytes) return nullptr;
    char* header = begin_ + used_;
    used_ += kAlignment + bytes;
    *reinterpret_cast<size_t*>(header) = bytes;
    return header + kAlignment;
  }
  void Give(void* p) {
    std::lock_guard<std::mutex> lock(mutex_);
    char* header = static_cast<char*>(p) - kAlignment;
    for (Free& list : free_) {
      if (list.bytes != 0 && list.bytes != *reinterpret_cast<size_t*>(header)) continue;
      list.bytes = *reinterpret_cast<size_t*>(header);
      *static_cast<void**>(p) = list.first;
      list.first = p;
      return;
    }  // too many sizes: lost until the program ends
  }

 private:
  struct Free {
    size_t bytes = 0;
    void* first = nullptr;
  };
  void* Pop(size_t bytes) {
    for (Free& list : free_) {
      if (list.bytes == 0) return nullptr;
      if (list.bytes != bytes || list.first == nullptr) continue;
      void* p = list.first;
      list.first = *static_cast<void**>(p);
      return p;
    }
    return nullptr;
  }
  void Open() {
    void* memory = nullptr;
    if (cudaHostAlloc(&memory, kRegionBytes, cudaHostAllocPortable) != cudaSuccess) {
      std::fprintf(stderr, "no GPU here: nothing was tested\n");
      std::_Exit(77);
    }
    begin_ = static_cast<char*>(memory);
  }

  std::mutex mutex_;
  char* begin_ = nullptr;
  size_t used_ = 0;
  Free free_[4096];
};

Region& TheRegion() {
  static Region* region = new (std::malloc(sizeof(Region))) Region;
  return *region;
}

}  // namespace

void WaitForGpu() {
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

void* GpuScratch(int64_t bytes) { return TheRegion().Take(static_cast<size_t>(bytes) + 1); }

}  // namespace winnow

void* operator new(size_t bytes) {
  void* p = winnow::TheRegion().Take(bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void operator delete(void* p) noexcept {
  if (p != nullptr) winnow::TheRegion().Give(p);
}
void operator delete(void* p, size_t) noexcept { operator delete(p); }
