#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "plan/model_shape.h"
#include "plan/policy.h"
#include "plan/prefill_plan.h"

namespace winnow {

// Positions [begin, end).
struct PositionSpan {
  int64_t begin = 0;
  int64_t end = 0;
  friend bool operator==(const PositionSpan&, const PositionSpan&) = default;
};

// How the tokens of a prompt are selected: the policy and the parameters of docs/claa.md, already
// valid for one model when they come from ResolveSelectionConfig. Names are those of claa.json, the
// flags and the proto.
struct SelectionConfig {
  const Policy* policy = &kClaaPolicy;  // never null
  int window = 8;                       // W: the last queries, which score
  int window_offset = 0;                // z: rows at the very end that the window skips
  int pool_kernel = 7;                  // κ, odd
  int aggregate_layers = 4;             // n: layers whose maximum selects
  int uncompacted_layers = 4;           // m: first layers, which store all N
  int selection_layer = 15;             // lp, counted from 0
  int64_t keep_ppm = 100'000;           // kept share of the prompt in millionths
  int64_t min_prompt_tokens = 2048;     // shorter prompts are not pruned
  int64_t min_kept_tokens = 512;
  int64_t protected_prefix = 0;  // the first positions, always kept
  std::vector<PositionSpan> protected_spans;

  friend bool operator==(const SelectionConfig&, const SelectionConfig&) = default;
};

// What one source (claa.json, flags, a request) says; unset fields leave the base as it is.
struct SelectionOverrides {
  std::optional<std::string> policy;
  std::optional<int64_t> window;
  std::optional<int64_t> window_offset;
  std::optional<int64_t> pool_kernel;
  std::optional<int64_t> aggregate_layers;
  std::optional<int64_t> uncompacted_layers;
  std::optional<int64_t> selection_layer;
  std::optional<double> keep_ratio;  // rounded to keep_ppm here and nowhere else
  std::optional<int64_t> keep_ppm;
  std::optional<int64_t> min_prompt_tokens;
  std::optional<int64_t> min_kept_tokens;
  std::optional<int64_t> protected_prefix;
  std::vector<PositionSpan> protected_spans;  // added to the base's
  std::optional<std::string> aggregate;       // only "max"
  std::optional<std::string> normalize;       // only "none"
};

// The paper's 32-layer defaults scaled to another depth: lp = round(15·L/32), n and m kept within
// it.
SelectionConfig DefaultSelectionConfig(const ModelShape& shape);

// Reads the text of a claa.json. INVALID_ARGUMENT names an unknown key, a wrong type or a syntax
// error.
absl::StatusOr<SelectionOverrides> ParseSelectionJson(const std::string& text);

// Text of a claa.json that reads back as `config`, but for protected spans: those belong to
// requests.
std::string SelectionConfigToJson(const SelectionConfig& config);

// The one validator: `base` with `overrides` applied, for a model. INVALID_ARGUMENT says which
// field is out of range. Valid for every policy: W ≥ 1, z ≥ 0, κ ≥ 1, keep in (0, 1], counts ≥ 0,
// spans not reversed; Policy::check has the ranges of the fields that one policy reads.
absl::StatusOr<SelectionConfig> ResolveSelectionConfig(const SelectionConfig& base,
                                                       const SelectionOverrides& overrides,
                                                       const ModelShape& shape);

// INVALID_ARGUMENT: `field` is outside [low, high].
absl::Status CheckSelectionRange(const char* field, int64_t value, int64_t low, int64_t high);

// First layer whose scores take part in CLAA's selection: max(0, lp−n+1).
int FirstAggregatedLayer(const SelectionConfig& config);

// How a prompt is computed, by the config's policy. REQUIRES: `config` came from
// ResolveSelectionConfig for `shape`; num_prompt_tokens ≥ 1.
PrefillPlan MakePrefillPlan(const ModelShape& shape, const SelectionConfig& config,
                            int64_t num_prompt_tokens);

}  // namespace winnow
