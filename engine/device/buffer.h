#pragma once

#include <cstddef>
#include <functional>
#include <utility>

namespace winnow {

// Owner of device memory; gives it back to its Backend when destroyed. Move-only. Made by
// Backend::Allocate; must not outlive the Backend.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, size_t bytes, std::function<void(void*)> release)
      : data_(data), bytes_(bytes), release_(std::move(release)) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      Reset();
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
      release_ = std::move(other.release_);
    }
    return *this;
  }
  ~Buffer() { Reset(); }

  template <typename T = void>
  T* data() const {
    return static_cast<T*>(data_);
  }
  // Address `offset` bytes in.
  void* at(size_t offset) const { return static_cast<std::byte*>(data_) + offset; }
  size_t bytes() const { return bytes_; }

 private:
  void Reset() {
    if (data_ != nullptr) release_(data_);
    data_ = nullptr;
  }
  void* data_ = nullptr;
  size_t bytes_ = 0;
  std::function<void(void*)> release_;
};

}  // namespace winnow
