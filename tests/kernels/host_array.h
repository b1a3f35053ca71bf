#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/types.h"

namespace winnow {

// An array of a DType in host memory, read and written as numbers. Guard elements behind its end
// show an op that writes too far.
class HostArray {
 public:
  HostArray(DType dtype, int64_t count)
      : dtype_(dtype), count_(count), bytes_(Bytes(count + kGuards), kGuardByte) {}

  // Uniform in [low, high), rounded to the type.
  static HostArray Random(DType dtype, int64_t count, uint32_t seed, float low = -1.0f,
                          float high = 1.0f) {
    HostArray array(dtype, count);
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> values(low, high);
    for (int64_t i = 0; i < count; ++i) array.Set(i, values(random));
    return array;
  }

  void Set(int64_t i, float value) {
    if (dtype_ == DType::kF32) {
      std::memcpy(at(i), &value, 4);
    } else {
      const Bf16 rounded = ToBf16(value);
      std::memcpy(at(i), &rounded, 2);
    }
  }
  float operator[](int64_t i) const {
    float f32;
    Bf16 bf16;
    if (dtype_ == DType::kF32) return std::memcpy(&f32, at(i), 4), f32;
    return std::memcpy(&bf16, at(i), 2), ToFloat(bf16);
  }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  void* at(int64_t i) { return bytes_.data() + Bytes(i); }
  const void* at(int64_t i) const { return bytes_.data() + Bytes(i); }
  int64_t count() const { return count_; }
  DType dtype() const { return dtype_; }

  bool GuardsIntact() const {
    for (size_t i = Bytes(count_); i < bytes_.size(); ++i) {
      if (bytes_[i] != kGuardByte) return false;
    }
    return true;
  }
  // True when element i was never written. (The guard pattern is a number that no test computes.)
  bool IsUntouched(int64_t i) const {
    for (size_t b = Bytes(i); b < Bytes(i + 1); ++b) {
      if (bytes_[b] != kGuardByte) return false;
    }
    return true;
  }
  friend bool operator==(const HostArray& a, const HostArray& b) { return a.bytes_ == b.bytes_; }

 private:
  static constexpr int kGuards = 64;
  static constexpr uint8_t kGuardByte = 0xA5;
  size_t Bytes(int64_t count) const { return static_cast<size_t>(count) * ElementSize(dtype_); }

  DType dtype_;
  int64_t count_;
  std::vector<uint8_t> bytes_;
};

}  // namespace winnow
