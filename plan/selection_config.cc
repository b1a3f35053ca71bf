#include "plan/selection_config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMillion = 1'000'000;

absl::Status Assign(const char* field, const std::optional<int64_t>& from, int64_t low,
                    int64_t high, int* to) {
  if (!from) return absl::OkStatus();
  WINNOW_RETURN_IF_ERROR(CheckSelectionRange(field, *from, low, high));
  *to = static_cast<int>(*from);
  return absl::OkStatus();
}

absl::Status Assign(const char* field, const std::optional<int64_t>& from, int64_t* to) {
  if (!from) return absl::OkStatus();
  WINNOW_RETURN_IF_ERROR(CheckSelectionRange(field, *from, 0, int64_t{1} << 40));
  *to = *from;
  return absl::OkStatus();
}

absl::Status CheckOnly(const char* field, const std::optional<std::string>& got,
                       const char* built) {
  if (!got || *got == built) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("selection: ", field, " '", *got, "' is not built; expected '", built, "'"));
}

absl::StatusOr<int64_t> KeepPpm(const SelectionOverrides& overrides, int64_t base) {
  if (overrides.keep_ratio) {
    const double ratio = *overrides.keep_ratio;
    if (!(ratio > 0.0 && ratio <= 1.0)) {  // NaN fails too
      return absl::InvalidArgumentError(
          absl::StrCat("selection: keep_ratio must be in (0, 1], got ", ratio));
    }
    return std::max<int64_t>(1, std::llround(ratio * kMillion));
  }
  const int64_t ppm = overrides.keep_ppm.value_or(base);
  WINNOW_RETURN_IF_ERROR(CheckSelectionRange("keep_ppm", ppm, 1, kMillion));
  return ppm;
}

// Reads one JSON value into an optional field, naming the key when the type is wrong.
template <typename T>
absl::Status Read(const std::string& key, const Json& value, bool type_ok, const char* expected,
                  std::optional<T>* field) {
  if (!type_ok) {
    return absl::InvalidArgumentError(
        absl::StrCat("claa.json: ", key, " must be ", expected, ", got ", value.dump()));
  }
  *field = value.get<T>();
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSelectionRange(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("selection: ", field, " must be in [", low, ", ", high, "], got ", value));
}

int FirstAggregatedLayer(const SelectionConfig& config) {
  return std::max(0, config.selection_layer - config.aggregate_layers + 1);
}

PrefillPlan MakePrefillPlan(const ModelShape& shape, const SelectionConfig& config,
                            int64_t num_prompt_tokens) {
  return config.policy->make_plan(shape, config, num_prompt_tokens);
}

SelectionConfig DefaultSelectionConfig(const ModelShape& shape) {
  SelectionConfig config;
  config.selection_layer = static_cast<int>(std::lround(15.0 * shape.num_layers / 32.0));
  config.selection_layer = std::clamp(config.selection_layer, 0, std::max(0, shape.num_layers - 2));
  config.aggregate_layers = std::min(config.aggregate_layers, config.selection_layer + 1);
  config.uncompacted_layers = std::min(config.uncompacted_layers, config.selection_layer + 1);
  return config;
}

absl::StatusOr<SelectionOverrides> ParseSelectionJson(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError("claa.json: not valid JSON");
  if (!json.is_object()) return absl::InvalidArgumentError("claa.json: expected an object");
  SelectionOverrides out;
  const std::map<std::string, std::optional<int64_t>*> integers = {
      {"window", &out.window},
      {"window_offset", &out.window_offset},
      {"pool_kernel", &out.pool_kernel},
      {"aggregate_layers", &out.aggregate_layers},
      {"uncompacted_layers", &out.uncompacted_layers},
      {"selection_layer", &out.selection_layer},
      {"keep_ppm", &out.keep_ppm},
      {"min_prompt_tokens", &out.min_prompt_tokens},
      {"min_kept_tokens", &out.min_kept_tokens},
      {"protected_prefix", &out.protected_prefix},
  };
  const std::map<std::string, std::optional<std::string>*> strings = {
      {"policy", &out.policy}, {"aggregate", &out.aggregate}, {"normalize", &out.normalize}};
  for (const auto& [key, value] : json.items()) {
    if (auto it = integers.find(key); it != integers.end()) {
      WINNOW_RETURN_IF_ERROR(Read(key, value, value.is_number_integer(), "an integer", it->second));
    } else if (auto it = strings.find(key); it != strings.end()) {
      WINNOW_RETURN_IF_ERROR(Read(key, value, value.is_string(), "a string", it->second));
    } else if (key == "keep_ratio") {
      WINNOW_RETURN_IF_ERROR(Read(key, value, value.is_number(), "a number", &out.keep_ratio));
    } else {
      return absl::InvalidArgumentError(absl::StrCat("claa.json: unknown key '", key, "'"));
    }
  }
  return out;
}

std::string SelectionConfigToJson(const SelectionConfig& config) {
  nlohmann::ordered_json json;
  json["policy"] = config.policy->name;
  json["window"] = config.window;
  json["window_offset"] = config.window_offset;
  json["pool_kernel"] = config.pool_kernel;
  json["aggregate_layers"] = config.aggregate_layers;
  json["uncompacted_layers"] = config.uncompacted_layers;
  json["selection_layer"] = config.selection_layer;
  json["keep_ppm"] = config.keep_ppm;
  json["min_prompt_tokens"] = config.min_prompt_tokens;
  json["min_kept_tokens"] = config.min_kept_tokens;
  json["protected_prefix"] = config.protected_prefix;
  json["aggregate"] = "max";
  json["normalize"] = "none";
  return json.dump();
}

absl::StatusOr<SelectionConfig> ResolveSelectionConfig(const SelectionConfig& base,
                                                       const SelectionOverrides& overrides,
                                                       const ModelShape& shape) {
  constexpr int kMaxInt = 1 << 30;
  SelectionConfig config = base;
  if (overrides.policy) {
    WINNOW_ASSIGN_OR_RETURN(config.policy, FindPolicy(*overrides.policy));
  }
  WINNOW_RETURN_IF_ERROR(CheckOnly("aggregate", overrides.aggregate, "max"));
  WINNOW_RETURN_IF_ERROR(CheckOnly("normalize", overrides.normalize, "none"));
  WINNOW_RETURN_IF_ERROR(Assign("window", overrides.window, 1, kMaxInt, &config.window));
  WINNOW_RETURN_IF_ERROR(
      Assign("window_offset", overrides.window_offset, 0, kMaxInt, &config.window_offset));
  WINNOW_RETURN_IF_ERROR(
      Assign("pool_kernel", overrides.pool_kernel, 1, kMaxInt, &config.pool_kernel));
  WINNOW_RETURN_IF_ERROR(
      Assign("aggregate_layers", overrides.aggregate_layers, 1, kMaxInt, &config.aggregate_layers));
  WINNOW_RETURN_IF_ERROR(Assign("uncompacted_layers", overrides.uncompacted_layers, 0, kMaxInt,
                                &config.uncompacted_layers));
  WINNOW_RETURN_IF_ERROR(
      Assign("selection_layer", overrides.selection_layer, 0, kMaxInt, &config.selection_layer));
  WINNOW_ASSIGN_OR_RETURN(config.keep_ppm, KeepPpm(overrides, config.keep_ppm));
  WINNOW_RETURN_IF_ERROR(
      Assign("min_prompt_tokens", overrides.min_prompt_tokens, &config.min_prompt_tokens));
  WINNOW_RETURN_IF_ERROR(
      Assign("min_kept_tokens", overrides.min_kept_tokens, &config.min_kept_tokens));
  WINNOW_RETURN_IF_ERROR(
      Assign("protected_prefix", overrides.protected_prefix, &config.protected_prefix));
  for (const PositionSpan& span : overrides.protected_spans) {
    if (span.begin < 0 || span.end < span.begin) {
      return absl::InvalidArgumentError(absl::StrCat("selection: protected span [", span.begin,
                                                     ", ", span.end,
                                                     ") must have 0 <= begin <= end"));
    }
    config.protected_spans.push_back(span);
  }

  WINNOW_RETURN_IF_ERROR(config.policy->check(config, shape));
  return config;
}

}  // namespace winnow
