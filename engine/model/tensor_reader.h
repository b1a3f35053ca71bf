#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/safetensors.h"
#include "kernels/types.h"

namespace winnow {

// Rows [begin, begin + count) or columns of a matrix.
struct Range {
  int64_t begin = 0;
  int64_t count = 0;
};

// Reads parts of a checkpoint's tensors into host memory as `dtype`, touching only the pages of
// that part. The checkpoint must outlive it.
class TensorReader {
 public:
  TensorReader(const Checkpoint& checkpoint, DType dtype)
      : checkpoint_(checkpoint), dtype_(dtype) {}

  // Appends the part [rows, columns] of matrix `name`, whose whole shape is
  // [num_rows][num_columns], to `out`, dense. NOT_FOUND, or INVALID_ARGUMENT for a wrong shape or a
  // dtype that is not BF16, F16 or F32; both name the tensor.
  absl::Status AppendMatrix(const std::string& name, int64_t num_rows, int64_t num_columns,
                            Range rows, Range columns, std::vector<std::byte>& out);
  // A part of vector `name`, whose whole length is `size`.
  absl::Status AppendVector(const std::string& name, int64_t size, Range part,
                            std::vector<std::byte>& out);

  DType dtype() const { return dtype_; }
  // Bytes of the checkpoint read so far.
  int64_t bytes_read() const { return bytes_read_; }

 private:
  absl::Status Append(const TensorInfo& tensor, int64_t first_element, int64_t count,
                      std::vector<std::byte>& out);

  const Checkpoint& checkpoint_;
  const DType dtype_;
  int64_t bytes_read_ = 0;
};

}  // namespace winnow
