#include "engine/model/random_tensors.h"

#include <cmath>
#include <cstring>

namespace winnow {
namespace {

constexpr float kDeviation = 0.02f;

// FNV-1a.
uint64_t Seed(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// Uniform in [−1, 1): splitmix64 of the place.
float Uniform(uint64_t seed, int64_t place) {
  uint64_t z = seed + static_cast<uint64_t>(place + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  return static_cast<float>(static_cast<int32_t>(z >> 32)) * 0x1p-31f;
}

template <typename T>
void Fill(uint64_t seed, int64_t place, int64_t count, float middle, float width, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    const T value = FromFloat<T>(middle + width * Uniform(seed, place + i));
    std::memcpy(to + i * sizeof(T), &value, sizeof(T));
  }
}

void Fill(DType dtype, uint64_t seed, int64_t place, int64_t count, bool is_norm, std::byte* to) {
  const float middle = is_norm ? 1.0f : 0.0f;
  const float width = kDeviation * std::sqrt(3.0f);
  if (dtype == DType::kF32) {
    Fill<float>(seed, place, count, middle, width, to);
  } else {
    Fill<Bf16>(seed, place, count, middle, width, to);
  }
}

}  // namespace

absl::Status RandomTensors::AppendMatrix(const std::string& name, int64_t num_rows,
                                         int64_t num_columns, Range rows, Range columns,
                                         std::vector<std::byte>& out) {
  const uint64_t seed = Seed(name);
  const int64_t row_bytes = columns.count * ElementSize(dtype_);
  const size_t before = out.size();
  out.resize(before + rows.count * row_bytes);
#pragma omp parallel for
  for (int64_t i = 0; i < rows.count; ++i) {
    Fill(dtype_, seed, (rows.begin + i) * num_columns + columns.begin, columns.count, false,
         out.data() + before + i * row_bytes);
  }
  bytes_read_ += rows.count * row_bytes;
  return absl::OkStatus();
}

absl::Status RandomTensors::AppendVector(const std::string& name, int64_t size, Range part,
                                         std::vector<std::byte>& out) {
  const bool is_norm = name.find("norm") != std::string::npos;
  const size_t before = out.size();
  out.resize(before + part.count * ElementSize(dtype_));
  Fill(dtype_, Seed(name), part.begin, part.count, is_norm, out.data() + before);
  bytes_read_ += part.count * ElementSize(dtype_);
  return absl::OkStatus();
}

}  // namespace winnow
