#pragma once

#include "checkpoint/safetensors.h"
#include "engine/model/tensor_source.h"

namespace winnow {

// The tensors of a checkpoint; touches only the pages of the parts that are asked for. The
// checkpoint must outlive it. NOT_FOUND: no such tensor. INVALID_ARGUMENT: a wrong shape, or a
// dtype that is not BF16, F16 or F32.
class TensorReader final : public TensorSource {
 public:
  explicit TensorReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::Status Append(const TensorPart& part, DType dtype, std::vector<std::byte>& out) override;

 private:
  absl::Status AppendElements(const TensorInfo& tensor, int64_t first, int64_t count, DType dtype,
                              std::vector<std::byte>& out);

  const Checkpoint& checkpoint_;
};

}  // namespace winnow
