#include "engine/model/tensor_reader.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

float HalfToFloat(uint16_t half) {
  const int exponent = (half >> 10) & 0x1F;
  const int mantissa = half & 0x3FF;
  float magnitude;
  if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else if (exponent == 31) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa | 0x400), exponent - 25);
  }
  return (half & 0x8000) ? -magnitude : magnitude;
}

float LoadBf16(const std::byte* p) {
  Bf16 value;
  std::memcpy(&value, p, 2);
  return ToFloat(value);
}
float LoadHalf(const std::byte* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return HalfToFloat(bits);
}
float LoadFloat(const std::byte* p) {
  float value;
  std::memcpy(&value, p, 4);
  return value;
}

template <typename Out, typename Load>
void Convert(const std::byte* from, int element_size, Load load, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    const Out value = FromFloat<Out>(load(from + i * element_size));
    std::memcpy(to + i * sizeof(Out), &value, sizeof(Out));
  }
}

template <typename Load>
void ConvertTo(DType dtype, const std::byte* from, int element_size, Load load, int64_t count,
               std::byte* to) {
  if (dtype == DType::kF32) {
    Convert<float>(from, element_size, load, count, to);
  } else {
    Convert<Bf16>(from, element_size, load, count, to);
  }
}

}  // namespace

absl::Status TensorReader::AppendElements(const TensorInfo& tensor, int64_t first, int64_t count,
                                          DType dtype, std::vector<std::byte>& out) {
  const size_t old_size = out.size();
  out.resize(old_size + count * ElementSize(dtype));
  std::byte* to = out.data() + old_size;
  const std::byte* data = checkpoint_.Data(tensor).data();
  const int source_size = tensor.dtype == "F32" ? 4 : 2;
  const std::byte* from = data + first * source_size;
  const bool same = (tensor.dtype == "F32" && dtype == DType::kF32) ||
                    (tensor.dtype == "BF16" && dtype == DType::kBf16);
  if (same) {
    std::memcpy(to, from, count * source_size);
  } else if (tensor.dtype == "BF16") {
    ConvertTo(dtype, from, 2, LoadBf16, count, to);
  } else if (tensor.dtype == "F16") {
    ConvertTo(dtype, from, 2, LoadHalf, count, to);
  } else if (tensor.dtype == "F32") {
    ConvertTo(dtype, from, 4, LoadFloat, count, to);
  } else {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor.name, " in ", tensor.file,
                                                   ": dtype must be BF16, F16 or F32, got ",
                                                   tensor.dtype));
  }
  bytes_read_ += count * source_size;
  return absl::OkStatus();
}

absl::Status TensorReader::Append(const TensorPart& part, DType dtype,
                                  std::vector<std::byte>& out) {
  if (part.is_vector()) {
    WINNOW_ASSIGN_OR_RETURN(const TensorInfo* vector, checkpoint_.Find(part.name, {part.num_rows}));
    return AppendElements(*vector, part.rows.begin, part.rows.count, dtype, out);
  }
  WINNOW_ASSIGN_OR_RETURN(const TensorInfo* matrix,
                          checkpoint_.Find(part.name, {part.num_rows, part.num_columns}));
  if (part.columns.count == part.num_columns) {  // whole rows follow each other in the file
    return AppendElements(*matrix, part.rows.begin * part.num_columns, part.num_elements(), dtype,
                          out);
  }
  for (int64_t row = part.rows.begin; row < part.rows.begin + part.rows.count; ++row) {
    WINNOW_RETURN_IF_ERROR(AppendElements(*matrix, row * part.num_columns + part.columns.begin,
                                          part.columns.count, dtype, out));
  }
  return absl::OkStatus();
}

}  // namespace winnow
