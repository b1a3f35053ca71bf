#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "checkpoint/weight_table.h"
#include "kernels/types.h"

namespace winnow {

// Where weights come from: parts of named tensors, into host memory as `dtype`.
class TensorSource {
 public:
  explicit TensorSource(DType dtype) : dtype_(dtype) {}
  virtual ~TensorSource() = default;

  // Appends the part to `out`, dense. Errors name the tensor.
  virtual absl::Status Append(const TensorPart& part, std::vector<std::byte>& out) = 0;

  DType dtype() const { return dtype_; }
  // Bytes made or read so far.
  int64_t bytes_read() const { return bytes_read_; }

 protected:
  const DType dtype_;
  int64_t bytes_read_ = 0;
};

}  // namespace winnow
