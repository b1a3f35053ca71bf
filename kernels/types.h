#pragma once

#include <cstdint>
#include <cstring>

struct CUstream_st;  // CUDA's

namespace winnow {

// A CUDA stream, for headers that need no CUDA. The …Cuda functions enqueue on it and return; they
// never allocate or wait, and leave errors to cudaGetLastError. Pointers are device memory.
using CudaStream = CUstream_st*;

// Element type of weights, activations and KV.
enum class DType : uint8_t { kF32, kBf16 };

// Buffers of one shape whose sum is meant: in fp32, in this order, rounded once.
constexpr int kMaxAddends = 4;
struct Addends {
  const void* data[kMaxAddends] = {};
  int count = 0;

  Addends() = default;
  Addends(const void* only) : data{only}, count(only != nullptr) {}  // NOLINT: a sum of one
};

constexpr int ElementSize(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
constexpr const char* DTypeName(DType dtype) { return dtype == DType::kF32 ? "f32" : "bf16"; }

// bfloat16 as stored: the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

inline float ToFloat(float x) { return x; }
inline float ToFloat(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

// Rounds to nearest even; NaN stays NaN.
inline Bf16 ToBf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}

template <typename T>
T FromFloat(float x);
template <>
inline float FromFloat<float>(float x) {
  return x;
}
template <>
inline Bf16 FromFloat<Bf16>(float x) {
  return ToBf16(x);
}

}  // namespace winnow
