#include "checkpoint/config_fields.h"

#include "common/status_macros.h"

namespace winnow {

const ConfigFields::Json* ConfigFields::Get(const char* field) const {
  const auto it = json_.find(field);
  return it == json_.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<int64_t> ConfigFields::Positive(const char* field, int64_t fallback) const {
  constexpr int64_t kMost = 1 << 30;
  const Json* value = Get(field);
  if (value == nullptr) {
    if (fallback > 0) return fallback;
    return Missing(field);
  }
  if (!value->is_number_unsigned() || *value == 0 || value->get<uint64_t>() > kMost) {
    return Unsupported(field, *value, "an integer in [1, 2^30]");
  }
  return value->get<int64_t>();
}

absl::StatusOr<int> ConfigFields::PositiveInt(const char* field, int fallback) const {
  WINNOW_ASSIGN_OR_RETURN(const int64_t value, Positive(field, fallback));
  return static_cast<int>(value);
}

absl::StatusOr<double> ConfigFields::PositiveNumber(const char* field, double fallback) const {
  const Json* value = Get(field);
  if (value == nullptr) {
    if (fallback > 0) return fallback;
    return Missing(field);
  }
  if (!value->is_number() || !(value->get<double>() > 0.0)) {
    return Unsupported(field, *value, "a positive number");
  }
  return value->get<double>();
}

absl::StatusOr<bool> ConfigFields::Bool(const char* field) const {
  const Json* value = Get(field);
  if (value == nullptr) return false;
  if (!value->is_boolean()) return Unsupported(field, *value, "true or false");
  return value->get<bool>();
}

absl::Status ConfigFields::OneOf(const char* field,
                                 std::initializer_list<const char*> allowed) const {
  const Json* value = Get(field);
  if (value == nullptr) return absl::OkStatus();
  std::string list;
  for (const char* name : allowed) {
    if (value->is_string() && *value == name) return absl::OkStatus();
    absl::StrAppend(&list, list.empty() ? "" : " or ", "'", name, "'");
  }
  return Unsupported(field, *value, list.c_str());
}

absl::StatusOr<ConfigFields> ConfigFields::Object(const char* field) const {
  const Json& value = *Get(field);
  if (!value.is_object()) return Unsupported(field, value, "an object");
  return ConfigFields(absl::StrCat(place_, ", ", field), value);
}

}  // namespace winnow
