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

absl::Status RandomTensors::Append(const TensorPart& part, DType dtype,
                                   std::vector<std::byte>& out) {
  const uint64_t seed = Seed(part.name);
  const int64_t bytes = part.num_elements() * ElementSize(dtype);
  const size_t before = out.size();
  out.resize(before + bytes);
  std::byte* to = out.data() + before;
  bytes_read_ += bytes;
  if (part.is_vector()) {
    const bool is_norm = part.name.find("norm") != std::string::npos;
    Fill(dtype, seed, part.rows.begin, part.rows.count, is_norm, to);
    return absl::OkStatus();
  }
  const int64_t row_bytes = part.columns.count * ElementSize(dtype);
#pragma omp parallel for
  for (int64_t i = 0; i < part.rows.count; ++i) {
    Fill(dtype, seed, (part.rows.begin + i) * part.num_columns + part.columns.begin,
         part.columns.count, false, to + i * row_bytes);
  }
  return absl::OkStatus();
}

}  // namespace winnow
