#include "common/json_file.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr uintmax_t kMaxBytes = 256u << 20;
constexpr int kMaxDepth = 64;  // printing and comparing recurse

}  // namespace

absl::StatusOr<Json> ReadJsonObject(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.message()));
  if (size > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected at most ", kMaxBytes, " bytes, got ", size));
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": cannot be read"));

  bool is_deep = false;
  const auto check_depth = [&](int depth, Json::parse_event_t, Json&) {
    is_deep = is_deep || depth > kMaxDepth;
    return !is_deep;
  };
  Json json = Json::parse(text, check_depth, /*allow_exceptions=*/false);
  if (is_deep) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": nested deeper than ", kMaxDepth, " levels"));
  }
  if (json.is_discarded()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not valid JSON; expected a JSON object"));
  }
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a JSON object, got ", json.type_name()));
  }
  return json;
}

}  // namespace winnow
