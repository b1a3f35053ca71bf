#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace winnow {

// Owns uninitialised elements aligned to a cache line, the widest vector: a load that crosses two
// lines costs twice.
template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(int64_t count) { Reserve(count); }

  // At least `count` elements from here on; what the array held is lost if it grows.
  void Reserve(int64_t count) {
    if (count <= count_) return;
    data_.reset();
    data_.reset(static_cast<T*>(
        ::operator new (static_cast<size_t>(count) * sizeof(T), std::align_val_t{kAlignment})));
    count_ = count;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(T* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t count_ = 0;
};

}  // namespace winnow
