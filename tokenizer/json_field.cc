#include "tokenizer/json_field.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxQuote = 200;

}  // namespace

const Json& Field(const Json& object, const char* name) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto it = object.find(name);
  return it == object.end() ? null : *it;
}

absl::StatusOr<bool> BoolField(const Json& object, const char* name, bool otherwise,
                               const std::string& where) {
  const Json& value = Field(object, name);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) return Unexpected(where, "true or false", value);
  return value.get<bool>();
}

absl::StatusOr<std::string> StringField(const Json& object, const char* name,
                                        const std::string& otherwise, const std::string& where) {
  const Json& value = Field(object, name);
  if (value.is_null()) return otherwise;
  if (!value.is_string()) return Unexpected(where, "a string", value);
  return value.get<std::string>();
}

absl::Status ForEachPart(
    const Json& json, const char* list, const std::string& where,
    const std::function<absl::Status(const Json& part, const std::string& where)>& add) {
  if (Field(json, "type") != "Sequence") return add(json, where);
  const Json& parts = Field(json, list);
  const std::string at = absl::StrCat(where, ".", list);
  if (!parts.is_array()) return Unexpected(at, "a list", parts);
  for (size_t i = 0; i < parts.size(); ++i) {
    WINNOW_RETURN_IF_ERROR(ForEachPart(parts[i], list, absl::StrCat(at, "[", i, "]"), add));
  }
  return absl::OkStatus();
}

std::string Quote(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);  // may be cut anywhere
  if (text.size() > kMaxQuote) text.replace(kMaxQuote, std::string::npos, "...");
  return text;
}

absl::Status Unexpected(const std::string& where, const std::string& expected, const Json& value) {
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": expected ", expected, ", got ", Quote(value)));
}

}  // namespace winnow
