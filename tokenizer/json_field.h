#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace winnow {

// Typed reading of JSON that somebody else wrote: a wrong type is a status, never an exception.
// `where` is the field's path for the message, such as "model.ignore_merges".

// Null when `object` is no object or has no such field.
const nlohmann::json& Field(const nlohmann::json& object, const char* name);

// The default where the field is absent or null. INVALID_ARGUMENT: another type.
absl::StatusOr<bool> BoolField(const nlohmann::json& object, const char* name, bool otherwise,
                               const std::string& where);
absl::StatusOr<std::string> StringField(const nlohmann::json& object, const char* name,
                                        const std::string& otherwise, const std::string& where);

// Calls `add` for what a Sequence of a tokenizer.json holds in its field `list`, Sequences in it
// opened too, or for `json` itself if it is none; the first error ends it. INVALID_ARGUMENT: `list`
// is no list.
absl::Status ForEachPart(
    const nlohmann::json& json, const char* list, const std::string& where,
    const std::function<absl::Status(const nlohmann::json& part, const std::string& where)>& add);

// The value as text, cut to a length that suits a message.
std::string Quote(const nlohmann::json& value);
// INVALID_ARGUMENT "WHERE: expected EXPECTED, got VALUE".
absl::Status Unexpected(const std::string& where, const std::string& expected,
                        const nlohmann::json& value);

}  // namespace winnow
