#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace winnow {

struct ModelShape;
struct PrefillPlan;
struct SelectionConfig;

// How prompt tokens are selected, as a row of functions: all that sets one policy apart from
// another. docs/add-a-policy.md says what a new one needs.
struct Policy {
  const char* name;     // in claa.json, flags, requests, on the wire, and as metric label `policy`
  const char* summary;  // for --help

  // INVALID_ARGUMENT names the field of the config that the policy reads and that is out of range
  // for the model. The ranges that hold for every model were checked before.
  absl::Status (*check)(const SelectionConfig& config, const ModelShape& shape);
  // REQUIRES: `config` passed `check` for `shape`; num_prompt_tokens ≥ 1.
  PrefillPlan (*make_plan)(const ModelShape& shape, const SelectionConfig& config,
                           int64_t num_prompt_tokens);
  // The rows that the plan's selected passes run, where they are known before any layer:
  // [num_rows] ascending. Null: scores decide.
  std::vector<int32_t> (*choose_rows)(const SelectionConfig& config, const PrefillPlan& plan);
};

extern const Policy kFullPolicy;     // plan/full_policy.cc
extern const Policy kClaaPolicy;     // plan/claa_policy.cc
extern const Policy kUniformPolicy;  // plan/uniform_policy.cc

// All policies, in the order in which they are listed to users.
absl::Span<const Policy* const> Policies();
// "full, claa, …"
std::string PolicyNames();
// INVALID_ARGUMENT for an unknown name; the text lists those that exist.
absl::StatusOr<const Policy*> FindPolicy(const std::string& name);

}  // namespace winnow
