#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the format's own reader

template <typename... Parts>
absl::Status Bad(const std::string& file, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", parts...));
}

uint64_t LittleEndian64(const std::byte* p) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | std::to_integer<uint64_t>(p[i]);
  return value;
}

// Bytes per element; 0 for a type we do not know.
uint64_t DtypeSize(const std::string& dtype) {
  static const auto* const sizes = new std::map<std::string, uint64_t>{
      {"F64", 8},     {"F32", 4},  {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1},
      {"F8_E5M2", 1}, {"BOOL", 1}, {"I64", 8}, {"I32", 4},  {"I16", 2},
      {"I8", 1},      {"U64", 8},  {"U32", 4}, {"U16", 2},  {"U8", 1}};
  const auto it = sizes->find(dtype);
  return it == sizes->end() ? 0 : it->second;
}

// Parses the header's JSON; `repeated` gets a name that stands there twice (JSON parsers keep the
// last silently).
Json ParseNamesOnce(const char* begin, const char* end, std::string* repeated) {
  std::set<std::string> names;
  const Json::parser_callback_t callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::key && depth == 1) {
      const std::string name = parsed.get<std::string>();
      if (!names.insert(name).second) *repeated = name;
    }
    return true;
  };
  return Json::parse(begin, end, callback, /*allow_exceptions=*/false);
}

bool IsArrayOfUnsigned(const Json& json) {
  if (!json.is_array()) return false;
  return std::all_of(json.begin(), json.end(),
                     [](const Json& x) { return x.is_number_unsigned(); });
}

// dtype and shape of one entry, and the bytes they need.
absl::Status ReadType(const std::string& file, const Json& entry, TensorInfo* tensor,
                      uint64_t* num_bytes) {
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string())
    return Bad(file, "tensor '", tensor->name, "' has no dtype");
  tensor->dtype = dtype->get<std::string>();
  *num_bytes = DtypeSize(tensor->dtype);
  if (*num_bytes == 0)
    return Bad(file, "tensor '", tensor->name, "' has unknown dtype '", tensor->dtype, "'");

  const auto shape = entry.find("shape");
  if (shape == entry.end() || !IsArrayOfUnsigned(*shape)) {
    return Bad(file, "tensor '", tensor->name, "' has no shape of non-negative integers");
  }
  for (const Json& dimension : *shape) {
    const uint64_t size = dimension.get<uint64_t>();
    if (size > INT64_MAX || __builtin_mul_overflow(*num_bytes, size, num_bytes)) {
      return Bad(file, "tensor '", tensor->name, "' has shape ", shape->dump(),
                 " whose size overflows");
    }
    tensor->shape.push_back(static_cast<int64_t>(size));
  }
  return absl::OkStatus();
}

// `data_begin`, `data_size`: the file's data section.
absl::StatusOr<TensorInfo> ReadTensor(const std::string& file, const std::string& name,
                                      const Json& entry, uint64_t data_begin, uint64_t data_size) {
  TensorInfo tensor;
  tensor.name = name;
  tensor.file = file;
  if (!entry.is_object()) return Bad(file, "tensor '", name, "' is not described by an object");
  uint64_t num_bytes = 0;
  WINNOW_RETURN_IF_ERROR(ReadType(file, entry, &tensor, &num_bytes));

  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !IsArrayOfUnsigned(*offsets) || offsets->size() != 2) {
    return Bad(file, "tensor '", name, "' has no data_offsets [begin, end]");
  }
  const uint64_t begin = (*offsets)[0].get<uint64_t>();
  const uint64_t end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > data_size) {
    return Bad(file, "tensor '", name, "' lies at [", begin, ", ", end, ") but the file has ",
               data_size, " bytes of data (truncated?)");
  }
  if (end - begin != num_bytes) {
    return Bad(file, "tensor '", name, "' of ", tensor.dtype, " [",
               absl::StrJoin(tensor.shape, ", "), "] needs ", num_bytes, " bytes, got ",
               end - begin);
  }
  tensor.begin = data_begin + begin;
  tensor.end = data_begin + end;
  return tensor;
}

absl::Status CheckNoOverlap(const std::string& file, const std::vector<TensorInfo>& tensors) {
  std::vector<const TensorInfo*> by_offset;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.begin < tensor.end) by_offset.push_back(&tensor);
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->begin < b->begin; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    if (by_offset[i]->begin < by_offset[i - 1]->end) {
      return Bad(file, "tensors '", by_offset[i - 1]->name, "' and '", by_offset[i]->name,
                 "' overlap");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TensorInfo>> ParseSafetensorsHeader(const std::string& file,
                                                               absl::Span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes)
    return Bad(file, "truncated: ", bytes.size(), " bytes, expected a header length of 8");
  const uint64_t header_bytes = LittleEndian64(bytes.data());
  if (header_bytes > kMaxHeaderBytes) {
    return Bad(file, "header of ", header_bytes, " bytes, expected at most ", kMaxHeaderBytes);
  }
  const uint64_t available = bytes.size() - kLengthBytes;
  if (header_bytes > available) {
    return Bad(file, "truncated: header of ", header_bytes, " bytes in a file with ", available,
               " after its length");
  }
  const char* text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  std::string repeated;
  const Json header = ParseNamesOnce(text, text + header_bytes, &repeated);
  if (header.is_discarded()) return Bad(file, "header is not valid JSON");
  if (!header.is_object()) return Bad(file, "header is not a JSON object");
  if (!repeated.empty()) return Bad(file, "tensor '", repeated, "' is named twice");

  std::vector<TensorInfo> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    WINNOW_ASSIGN_OR_RETURN(
        TensorInfo tensor,
        ReadTensor(file, name, entry, kLengthBytes + header_bytes, available - header_bytes));
    tensors.push_back(std::move(tensor));
  }
  WINNOW_RETURN_IF_ERROR(CheckNoOverlap(file, tensors));
  return tensors;
}

}  // namespace winnow
