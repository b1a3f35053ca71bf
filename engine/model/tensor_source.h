#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/weight_table.h"
#include "kernels/types.h"

namespace winnow {

// Where weights come from: parts of named tensors, into host memory.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // Appends the part to `out` as elements of `dtype`, dense. Errors name the tensor.
  virtual absl::Status Append(const TensorPart& part, DType dtype, std::vector<std::byte>& out) = 0;

  // Bytes made or read so far.
  int64_t bytes_read() const { return bytes_read_; }

 protected:
  int64_t bytes_read_ = 0;
};

}  // namespace winnow
