#pragma once

#include "engine/model/tensor_source.h"

namespace winnow {

// Made-up weights, for measuring speed on real shapes without a checkpoint: uniform with the
// deviation that models are initialised with (0.02), norms near 1. An element depends on its
// tensor's name and its place alone, so that any number of ranks computes the same model.
class RandomTensors final : public TensorSource {
 public:
  using TensorSource::TensorSource;

  absl::Status AppendMatrix(const std::string& name, int64_t num_rows, int64_t num_columns,
                            Range rows, Range columns, std::vector<std::byte>& out) override;
  absl::Status AppendVector(const std::string& name, int64_t size, Range part,
                            std::vector<std::byte>& out) override;
};

}  // namespace winnow
