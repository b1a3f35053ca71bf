#pragma once

#include "engine/model/tensor_source.h"

namespace winnow {

// Made-up weights, for measuring speed on real shapes without a checkpoint: uniform with the
// deviation that models are initialised with (0.02), norms near 1. An element depends on its
// tensor's name and its place alone, so that any number of ranks computes the same model.
class RandomTensors final : public TensorSource {
 public:
  absl::Status Append(const TensorPart& part, DType dtype, std::vector<std::byte>& out) override;
};

}  // namespace winnow
