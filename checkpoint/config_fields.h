#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace winnow {

// The fields of a config file, or of an object in one. Every error is INVALID_ARGUMENT and names
// file, field and value. A null counts as absent.
class ConfigFields {
 public:
  using Json = nlohmann::json;

  // `place` is the file's path, and the object's name in it, if it is one.
  ConfigFields(std::string place, Json json) : place_(std::move(place)), json_(std::move(json)) {}

  const Json* Get(const char* field) const;
  template <typename... Parts>
  absl::Status Bad(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(place_, ": ", parts...));
  }
  absl::Status Missing(const char* field) const { return Bad("field '", field, "' is missing"); }
  absl::Status Unsupported(const char* field, const Json& got, const char* expected) const {
    return Bad("field '", field, "' must be ", expected, ", got ", got.dump());
  }

  // An integer in [1, 2^30]; `fallback` when absent, if it is one itself.
  absl::StatusOr<int64_t> Positive(const char* field, int64_t fallback = 0) const;
  absl::StatusOr<int> PositiveInt(const char* field, int fallback = 0) const;
  // A number above 0; `fallback` when absent, if it is one itself.
  absl::StatusOr<double> PositiveNumber(const char* field, double fallback = 0) const;
  // False when absent.
  absl::StatusOr<bool> Bool(const char* field) const;
  // OK when absent.
  absl::Status OneOf(const char* field, std::initializer_list<const char*> allowed) const;
  // The fields of the object `field`. REQUIRES: Get(field) is not null.
  absl::StatusOr<ConfigFields> Object(const char* field) const;

 private:
  const std::string place_;
  const Json json_;
};

}  // namespace winnow
