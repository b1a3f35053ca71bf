#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "engine/device/buffer.h"

namespace winnow {

// Page-locked host memory. Locking a gigabyte takes a good part of a second, so what is given back
// is kept for the next request of about its size. Thread-safe.
class PinnedPool : public std::enable_shared_from_this<PinnedPool> {
 public:
  PinnedPool() = default;
  ~PinnedPool();
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;

  // RESOURCE_EXHAUSTED. The buffer may outlive the pool's other owners.
  absl::StatusOr<Buffer> Allocate(size_t bytes);

 private:
  static constexpr size_t kMaxIdleBytes = size_t{8} << 30;

  void GiveBack(void* data, size_t bytes);

  std::mutex mutex_;
  std::multimap<size_t, void*> idle_;
  size_t idle_bytes_ = 0;
};

}  // namespace winnow
