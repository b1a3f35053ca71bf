#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/types.h"

namespace winnow {

// Rows [begin, begin + count) or columns of a matrix.
struct Range {
  int64_t begin = 0;
  int64_t count = 0;
};

// Where weights come from: parts of named tensors, into host memory as `dtype`.
class TensorSource {
 public:
  explicit TensorSource(DType dtype) : dtype_(dtype) {}
  virtual ~TensorSource() = default;

  // Appends the part [rows, columns] of matrix `name`, whose whole shape is
  // [num_rows][num_columns], to `out`, dense. Errors name the tensor.
  virtual absl::Status AppendMatrix(const std::string& name, int64_t num_rows, int64_t num_columns,
                                    Range rows, Range columns, std::vector<std::byte>& out) = 0;
  // A part of vector `name`, whose whole length is `size`.
  virtual absl::Status AppendVector(const std::string& name, int64_t size, Range part,
                                    std::vector<std::byte>& out) = 0;

  DType dtype() const { return dtype_; }
  // Bytes made or read so far.
  int64_t bytes_read() const { return bytes_read_; }

 protected:
  const DType dtype_;
  int64_t bytes_read_ = 0;
};

}  // namespace winnow
