#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/config_fields.h"

namespace winnow {

// How a model turns positions into rotations (docs/design.md §6; Hugging Face's "rope types").
struct RopeConfig {
  enum class Type { kDefault, kLinear, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000.0;
  double factor = 1.0;                                   // by which the context was stretched
  int64_t original_context = 0;                          // before that; llama3 and yarn
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn: whole dimensions
  double attention_factor = 1.0;                         // yarn: cos and sin are multiplied by it
};

// From rope_theta and rope_scaling (older files) or rope_parameters (newer). INVALID_ARGUMENT: a
// type that is not supported, or a field of it that is missing or odd.
absl::StatusOr<RopeConfig> ReadRopeConfig(const ConfigFields& fields, int64_t max_context);

// Rotation speeds, [head_dim / 2], radians per position: theta^(−2c/d), stretched as the type says.
// linear: arXiv 2306.15595. yarn: arXiv 2309.00071. llama3: arXiv 2407.21783.
std::vector<float> RopeInverseFrequencies(const RopeConfig& rope, int head_dim);

}  // namespace winnow
